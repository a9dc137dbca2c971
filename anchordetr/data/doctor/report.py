"""One pass over a data set in files: what it holds, and what is wrong with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.dataset import AnnotationTable
from anchordetr.data.doctor.image_scan import ScannedImage, look_at_all
from anchordetr.data.doctor.validation import KINDS, Finding, find_all, of_boxes, of_images, table_of
from anchordetr.data.layouts.base import FolderDataset, wrong_size
from anchordetr.data.layouts.opening import find_layout
from anchordetr.data.layouts.raw import WrittenSplit
from anchordetr.data.preflight import crowded_images, duplicate_boxes
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

_SMALL, _MEDIUM = 32**2, 96**2  # COCO's size classes, pixels²
_RARE = 0.01


@dataclass(frozen=True)
class SplitReport:
    """What one split holds.

    Attributes:
        written: its annotations as they are. images: its files, decoded. findings: what is wrong, errors first.
    """

    name: str
    written: WrittenSplit
    images: list[ScannedImage]
    findings: list[Finding]

    def statistics(self) -> dict[str, Any]:
        """Return counts, sizes in pixels, and objects and images of each class, for people and for JSON."""
        table = table_of(self.written)
        objects = np.bincount(table.rows()[~table.crowd], minlength=len(table))
        return {
            "images": len(table),
            "annotations": len(self.written.boxes),
            "objects": int(objects.sum()),
            "crowds": int(table.crowd.sum()),
            "images_without_objects": int((objects == 0).sum()),
            "objects_per_image": _spread(objects),
            "image_height": _spread(table.sizes[:, 0]),
            "image_width": _spread(table.sizes[:, 1]),
            "box_width": _spread(table.boxes[:, 2]),
            "box_height": _spread(table.boxes[:, 3]),
            "box_sizes": _size_classes(table.boxes[:, 2] * table.boxes[:, 3]),
            "image_ids": _spread(self.written.image_ids),
            "classes": _classes(self.written, table),
        }


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it, split by split; ``findings`` are those of the whole."""

    data: Path
    layout: str
    splits: list[SplitReport]
    findings: list[Finding] = field(default_factory=list)

    def all_findings(self) -> list[tuple[str, Finding]]:
        """Return every finding with the name of its split, or ``all``."""
        of_splits = [(split.name, finding) for split in self.splits for finding in split.findings]
        return [*(("all", finding) for finding in self.findings), *of_splits]

    @property
    def clean(self) -> bool:
        """Whether nothing was found but notes."""
        return all(KINDS[finding.kind].severity == "note" for _, finding in self.all_findings())

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON; every finding lists all that it concerns."""
        findings = [
            {
                "split": split,
                "kind": finding.kind,
                "severity": KINDS[finding.kind].severity,
                "what": KINDS[finding.kind].what,
                "count": len(finding.names),
                "names": list(finding.names),
            }
            for split, finding in self.all_findings()
        ]
        splits = {split.name: split.statistics() for split in self.splits}
        return {
            "data": str(self.data),
            "layout": self.layout,
            "clean": self.clean,
            "splits": splits,
            "findings": findings,
        }


def examine(path: Path, layout: str = "auto", num_queries: int = 900) -> Report:
    """Read all annotations and decode all images of a data set once.

    Args:
        path: the data set's folder. layout: a registered layout, or ``auto`` to look which one fits.
        num_queries: Q of the model, the most objects that it can find in an image.

    Raises:
        UsageError: no such layout is registered.
        InputError: the folder is missing, has no known layout, or the data set is not in files.
    """
    layout = find_layout(path, layout)
    found = DATA_LAYOUTS[layout]
    if not (isinstance(found, type) and issubclass(found, FolderDataset)):
        raise InputError(f"{path} is not in files; there is nothing for the doctor to look at.")
    splits: list[SplitReport] = []
    unusable: list[str] = []
    for name in found.splits(path):
        try:
            written = found.read(path, name)
        except InputError as error:
            unusable.append(f"{name}: {error}")
        else:
            splits.append(_examine_split(name, written, num_queries))
    findings = [
        Finding("unusable", unusable),
        Finding("class_mismatch", _other_classes(splits)),
        Finding("shared_image", shared_images(splits)),
    ]
    return Report(path, layout, splits, [finding for finding in findings if finding.names])


def _examine_split(name: str, written: WrittenSplit, num_queries: int) -> SplitReport:
    images = look_at_all(written)
    table = table_of(written)
    broken = [row for row, image in enumerate(images) if image.error and written.path(row).is_file()]
    findings = [
        *(finding for finding in find_all(written) if finding.kind != "unreadable_image"),
        Finding("unreadable_image", [str(images[row].error) for row in broken], broken),
        wrongly_sized(written, images),
        of_images("duplicate_image", written, _repeated_images(images)),
        Finding("duplicate_box", duplicate_boxes(table)),
        Finding("too_many_objects", crowded_images(table, num_queries)),
        of_boxes("zero_id", written, np.flatnonzero(written.box_ids == 0)),
        *_class_findings(written, table),
        Finding("reading", written.notes),
    ]
    order = ("error", "repaired", "warning", "note")
    findings.sort(key=lambda finding: order.index(KINDS[finding.kind].severity))
    return SplitReport(name, written, images, [finding for finding in findings if finding.names])


def wrongly_sized(written: WrittenSplit, images: Sequence[ScannedImage]) -> Finding:
    """Return the images whose upright size is not the one that the annotations tell."""
    annotated = [(int(height), int(width)) for height, width in written.sizes]
    rows = [
        row
        for row, image in enumerate(images)
        if image.error is None and 0 not in annotated[row] and (image.height, image.width) != annotated[row]
    ]
    names = [
        wrong_size(written.file_names[row], (images[row].height, images[row].width), annotated[row]) for row in rows
    ]
    return Finding("wrong_size", names, rows)


def _repeated_images(images: Sequence[ScannedImage]) -> NDArray[np.int64]:
    seen: set[bytes] = set()
    rows = []
    for row, image in enumerate(images):
        if image.digest and image.digest in seen:
            rows.append(row)
        seen.add(image.digest)
    return np.array(rows, dtype=np.int64)


def _class_findings(written: WrittenSplit, table: AnnotationTable) -> list[Finding]:
    counts = np.bincount(table.labels, minlength=len(written.class_names))
    empty = np.flatnonzero(counts == 0)
    rare = np.flatnonzero((counts > 0) & (counts < _RARE * counts.max(initial=0)))
    return [
        Finding("class_without_boxes", [written.class_names[label] for label in empty]),
        Finding("imbalance", [f"{written.class_names[label]} ({counts[label]})" for label in rare]),
    ]


def _other_classes(splits: Sequence[SplitReport]) -> list[str]:
    return [
        f"{split.name} has {split.written.class_names}, {splits[0].name} {splits[0].written.class_names}"
        for split in splits
        if split.written.class_names != splits[0].written.class_names
    ]


def shared_images(splits: Sequence[SplitReport]) -> list[str]:
    """Return the images whose bytes are in several splits, by the names that they have there."""
    places: dict[bytes, dict[str, str]] = defaultdict(dict)
    for split in splits:
        for name, image in zip(split.written.file_names, split.images, strict=True):
            if image.digest:
                places[image.digest].setdefault(split.name, name)
    return [
        " = ".join(f"{split}: {name}" for split, name in found.items()) for found in places.values() if len(found) > 1
    ]


def _spread(values: NDArray[Any]) -> dict[str, float]:
    """Smallest, median and largest; nothing for no values."""
    if len(values) == 0:
        return {}
    return {"smallest": float(values.min()), "median": float(np.median(values)), "largest": float(values.max())}


def _size_classes(areas: NDArray[np.float32]) -> dict[str, int]:
    small, large = int((areas < _SMALL).sum()), int((areas >= _MEDIUM).sum())
    return {"small": small, "medium": len(areas) - small - large, "large": large}


def _classes(written: WrittenSplit, table: AnnotationTable) -> dict[str, dict[str, int]]:
    rows = table.rows()
    return {
        name: {
            "id": written.category_ids[label],
            "objects": int((table.labels == label).sum()),
            "images": len(np.unique(rows[table.labels == label])),
        }
        for label, name in enumerate(written.class_names)
    }

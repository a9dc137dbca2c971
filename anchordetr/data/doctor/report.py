"""The doctor's report on a data set: statistics of each split, and all problems found."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.dataset import AnnotationTable
from anchordetr.data.doctor.statistics import statistics_of
from anchordetr.data.findings import KINDS, Finding
from anchordetr.data.layouts.base import size_mismatch
from anchordetr.data.layouts.holdout import Holdout, has_val, read_split, split_names
from anchordetr.data.layouts.image_scan import ScannedImage, scan_images
from anchordetr.data.layouts.opening import is_in_files, locate
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.validation import annotation_finding, find_problems, image_finding, to_table
from anchordetr.data.preflight import crowded_images, duplicate_boxes
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

_RARE = 0.01


@dataclass(frozen=True)
class SplitReport:
    """Annotations, scanned images and problems of one split.

    Attributes:
        raw: the annotations before validation.
        images: one scanned image per row of ``raw``.
        findings: the problems, errors first.
    """

    name: str
    raw: RawSplit
    images: list[ScannedImage]
    findings: list[Finding]

    def statistics(self) -> dict[str, Any]:
        """Return counts, sizes in pixels, and objects and images per class, as JSON values."""
        return statistics_of(self.raw)


@dataclass(frozen=True)
class Report:
    """Reports of all splits; ``findings`` are the problems that concern several splits."""

    data: Path
    layout: str
    splits: list[SplitReport]
    findings: list[Finding] = field(default_factory=list)

    def all_findings(self) -> list[tuple[str, Finding]]:
        """Return every finding with the name of its split, ``all`` for those of several splits."""
        of_splits = [(split.name, finding) for split in self.splits for finding in split.findings]
        return [*(("all", finding) for finding in self.findings), *of_splits]

    @property
    def clean(self) -> bool:
        """Whether all findings are notes."""
        return all(KINDS[finding.kind].severity == "note" for _, finding in self.all_findings())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, with the complete list of names of every finding."""
        findings = [
            {
                "split": split,
                "kind": finding.kind,
                "severity": KINDS[finding.kind].severity,
                "what": KINDS[finding.kind].description,
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


def examine(
    path: Path,
    layout: str = "auto",
    num_queries: int = 900,
    holdout: Holdout = Holdout(),  # noqa: B008
) -> Report:
    """Read all annotations and decode all images of a data set once.

    Args:
        path, layout, holdout: as in :func:`~anchordetr.data.layouts.opening.open_dataset`.
        num_queries: Q of the model, the largest number of objects per image that it can detect.

    Raises:
        UsageError: no such layout is registered.
        InputError: the data set is missing, has no known layout, or has no files.
    """
    given, (path, layout) = path, locate(path, layout)
    found = DATA_LAYOUTS[layout]
    if not is_in_files(found):
        raise InputError(f"{path} is not in files; the doctor examines folders of images and annotations.")
    splits: list[SplitReport] = []
    unusable: list[str] = []
    names = split_names(found, path, holdout)
    for name in names:
        try:
            raw = read_split(found, path, name, holdout)
        except InputError as error:
            unusable.append(f"{name}: {error}")
        else:
            splits.append(_examine_split(name, raw, num_queries))
    findings = [
        Finding("unusable", unusable),
        Finding("no_splits", [] if splits or unusable else [str(path)]),
        Finding("no_val", [] if not splits or has_val(names) else ["hold out images with --val-fraction 0.2"]),
        Finding("class_mismatch", _class_mismatches(splits)),
        Finding("shared_image", shared_images(splits)),
    ]
    return Report(given, layout, splits, [finding for finding in findings if finding.names])


def _examine_split(name: str, raw: RawSplit, num_queries: int) -> SplitReport:
    images = scan_images(raw)
    table = to_table(raw)
    broken = [row for row, image in enumerate(images) if image.error and os.path.isfile(raw.path(row))]
    findings = [
        Finding("no_images", [] if raw.file_names else [name]),
        Finding("no_boxes", [name] if raw.file_names and not len(table.boxes) else []),
        *(finding for finding in find_problems(raw) if finding.kind != "unreadable_image"),
        Finding("unreadable_image", [str(images[row].error) for row in broken], broken),
        size_mismatches(raw, images),
        image_finding("duplicate_image", raw, _duplicate_images(images)),
        Finding("duplicate_box", duplicate_boxes(table)),
        Finding("too_many_objects", crowded_images(table, num_queries)),
        annotation_finding("zero_id", raw, np.flatnonzero(raw.box_ids == 0)),
        *_class_findings(raw, table),
        Finding("reading", raw.notes),
    ]
    order = ("error", "repaired", "warning", "note")
    findings.sort(key=lambda finding: order.index(KINDS[finding.kind].severity))
    return SplitReport(name, raw, images, [finding for finding in findings if finding.names])


def size_mismatches(raw: RawSplit, images: Sequence[ScannedImage]) -> Finding:
    """Return the images whose upright size differs from the annotated one."""
    annotated = [(int(height), int(width)) for height, width in raw.sizes]
    rows = [
        row
        for row, image in enumerate(images)
        if image.error is None and 0 not in annotated[row] and (image.height, image.width) != annotated[row]
    ]
    names = [
        size_mismatch(raw.file_names[row], (images[row].height, images[row].width), annotated[row]) for row in rows
    ]
    return Finding("wrong_size", names, rows)


def _duplicate_images(images: Sequence[ScannedImage]) -> NDArray[np.int64]:
    seen: set[bytes] = set()
    rows = []
    for row, image in enumerate(images):
        if image.digest and image.digest in seen:
            rows.append(row)
        seen.add(image.digest)
    return np.array(rows, dtype=np.int64)


def _class_findings(raw: RawSplit, table: AnnotationTable) -> list[Finding]:
    counts = np.bincount(table.labels, minlength=len(raw.class_names))
    empty = np.flatnonzero(counts == 0)
    rare = np.flatnonzero((counts > 0) & (counts < _RARE * counts.max(initial=0)))
    return [
        Finding("class_without_boxes", [raw.class_names[label] for label in empty]),
        Finding("imbalance", [f"{raw.class_names[label]} ({counts[label]})" for label in rare]),
    ]


def _class_mismatches(splits: Sequence[SplitReport]) -> list[str]:
    return [
        f"{split.name} has {split.raw.class_names}, {splits[0].name} {splits[0].raw.class_names}"
        for split in splits
        if split.raw.class_names != splits[0].raw.class_names
    ]


def shared_images(splits: Sequence[SplitReport]) -> list[str]:
    """Return the images with the same bytes in several splits, as ``split: name = split: name``."""
    places: dict[bytes, dict[str, str]] = defaultdict(dict)
    for split in splits:
        for name, image in zip(split.raw.file_names, split.images, strict=True):
            if image.digest:
                places[image.digest].setdefault(split.name, name)
    return [
        " = ".join(f"{split}: {name}" for split, name in found.items()) for found in places.values() if len(found) > 1
    ]

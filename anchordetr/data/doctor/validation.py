"""What can be wrong with annotations, found column by column, and the repairs that loading makes and counts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.dataset import AnnotationTable, Names
from anchordetr.data.layouts.raw import NO_ID, WrittenSplit
from anchordetr.errors import InputError

log = logging.getLogger("anchordetr")

Severity = Literal["error", "repaired", "warning", "note"]
Rows = NDArray[np.int64]

_CLIP_TOLERANCE = 1.0  # pixels; rounding by annotation tools is not worth a message
_ROUNDING = 1e-3  # pixels; of float32 arithmetic
_NAMED = 10
_NAMED_IN_ERRORS = 100


class Kind(NamedTuple):
    """One thing that can be wrong. An ``error`` stops loading, ``repaired`` is counted, the others are only told."""

    severity: Severity
    what: str
    advice: str


_FIX = "Correct the annotations, or write a repaired copy with anchordetr doctor --fix."
KINDS = {
    "missing_image": Kind("error", "missing images", f"Restore the files. {_FIX}"),
    "unreadable_image": Kind(
        "error", "images that cannot be read", "Replace them, or leave them out with --set data.skip_broken=true."
    ),
    "wrong_size": Kind("error", "images of another size than their annotations say", _FIX),
    "duplicate_image_id": Kind("error", "image ids given to several images", _FIX),
    "duplicate_annotation_id": Kind("error", "annotation ids given several times", _FIX),
    "unknown_category": Kind("error", "annotations of a category that is not listed", _FIX),
    "not_a_number": Kind("error", "annotations whose bbox is not four finite numbers", _FIX),
    "unlisted_image": Kind("repaired", "annotations of images that are not listed, left out", ""),
    "no_area": Kind("repaired", "boxes without area inside their image, dropped", ""),
    "outside": Kind("repaired", "boxes that stick out of their image, clipped", ""),
    "looks_like_xyxy": Kind(
        "warning", "boxes that make sense as x1, y1, x2, y2 but not as x, y, width, height", "Check the box format."
    ),
    "duplicate_box": Kind("warning", "boxes given twice with the same class", ""),
    "too_many_objects": Kind(
        "warning", "images with more objects than the model has queries", "Raise model.num_anchors."
    ),
    "class_mismatch": Kind("error", "splits with other classes than the first", "Give all splits the same classes."),
    "zero_id": Kind("note", "annotations with the id 0, which other tools take for none", ""),
    "class_without_boxes": Kind("note", "classes without a box", ""),
    "imbalance": Kind("note", "classes with less than a hundredth of the boxes of the largest", ""),
    "duplicate_image": Kind("warning", "images given several times in one split", ""),
    "shared_image": Kind("warning", "images that are in another split too", "The evaluation is too good then."),
    "skipped": Kind("repaired", "images that cannot be read, skipped", ""),
    "unusable": Kind("error", "splits that cannot be read", ""),
    "reading": Kind("note", "remarks from reading", ""),
}


@dataclass(frozen=True)
class Finding:
    """What is wrong, and with which images, annotations or classes.

    Attributes:
        kind: a key of ``KINDS``. names: what it concerns, all of them. images: rows of the images, where there are.
    """

    kind: str
    names: Sequence[str]
    images: Sequence[int] = ()

    def sentence(self, source: object) -> str:
        """Return one line that says where, what, how often, which, and what to do."""
        severity, what, advice = KINDS[self.kind]
        limit = _NAMED_IN_ERRORS if severity == "error" else _NAMED
        listed = ", ".join(self.names[:limit]) + (", ..." if len(self.names) > limit else "")
        return f"{source}: {what}: {len(self.names)} ({listed}). {advice}".rstrip()


def checked_table(split: WrittenSplit) -> AnnotationTable:
    """Return the annotations that training and evaluation use; repairs are counted in warnings.

    Raises:
        InputError: something is wrong that cannot be repaired without guessing; the message lists all of it.
    """
    for note in split.notes:
        log.warning("%s: %s", split.source, note)
    for finding in find_all(split):
        if KINDS[finding.kind].severity == "error":
            raise InputError(finding.sentence(split.source))
        log.warning("%s", finding.sentence(split.source))
    return table_of(split)


def table_of(split: WrittenSplit) -> AnnotationTable:
    """Return the annotations that have a listed image and class and area inside the image, clipped to it."""
    clipped = clipped_boxes(split)
    kept = np.flatnonzero((split.image_rows >= 0) & (split.labels >= 0) & has_area(clipped))
    kept = kept[np.argsort(split.image_rows[kept], kind="stable")]
    boxes = clipped[kept].astype(np.float32)
    given = split.areas[kept]
    return AnnotationTable(
        image_ids=split.image_ids,
        file_names=Names.of(split.file_names),
        sizes=split.sizes,
        starts=np.cumsum([0, *np.bincount(split.image_rows[kept], minlength=len(split.image_ids))]),
        boxes=boxes,
        labels=split.labels[kept],
        areas=np.where(given > 0, given, boxes[:, 2] * boxes[:, 3]).astype(np.float32),
        crowd=split.crowd[kept],
    )


def find_all(split: WrittenSplit) -> list[Finding]:
    """Return everything that loading refuses, repairs or warns of, errors first."""
    missing = rows_of_missing_files(split)
    unreadable = np.setdiff1d(np.flatnonzero(~_known_sizes(split)), missing)
    numbered = np.flatnonzero(split.box_ids != NO_ID)
    findings = [
        of_images("missing_image", split, missing),
        of_images("unreadable_image", split, unreadable),
        of_images("duplicate_image_id", split, repeated(split.image_ids), with_id=True),
        of_boxes("duplicate_annotation_id", split, numbered[repeated(split.box_ids[numbered])]),
        of_boxes("unknown_category", split, np.flatnonzero(split.labels < 0), with_category=True),
        of_boxes("not_a_number", split, np.flatnonzero(~np.isfinite(split.boxes).all(axis=1))),
        of_boxes("looks_like_xyxy", split, rows_like_xyxy(split)),
        of_boxes("unlisted_image", split, np.flatnonzero(split.image_rows < 0)),
        of_boxes("no_area", split, rows_without_area(split)),
        of_boxes("outside", split, rows_outside(split)),
    ]
    return [finding for finding in findings if finding.names]


def of_images(kind: str, split: WrittenSplit, rows: Rows, with_id: bool = False) -> Finding:
    """Return a finding about images, by their file names."""
    names = [split.file_names[row] + (f" (id {split.image_ids[row]})" if with_id else "") for row in rows]
    return Finding(kind, names, rows.tolist())


def of_boxes(kind: str, split: WrittenSplit, rows: Rows, with_category: bool = False) -> Finding:
    """Return a finding about annotations, by the data set's names for them."""
    categories = split.box_categories
    names = [split.box_names[row] + (f" has category {categories[row]}" if with_category else "") for row in rows]
    images = np.unique(split.image_rows[rows])
    return Finding(kind, names, images[images >= 0].tolist())


def rows_of_missing_files(split: WrittenSplit) -> Rows:
    """Return the images whose file is not there."""
    return np.flatnonzero([not split.path(row).is_file() for row in range(len(split.file_names))])


def repeated(values: NDArray[np.int64]) -> Rows:
    """Return the positions of all values that occur more than once."""
    _, positions, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[positions] > 1)


def repeated_boxes(images: Rows, labels: Rows, boxes: NDArray[Any]) -> Rows:
    """Return the positions of boxes (T, 4) that repeat an earlier one of the same image and class, to the pixel."""
    keys = np.column_stack([images, labels, boxes.round().astype(np.int64)])
    _, first = np.unique(keys, axis=0, return_index=True)
    return np.setdiff1d(np.arange(len(keys)), first)


def rows_without_area(split: WrittenSplit) -> Rows:
    """Return the annotations whose box has no area inside its image."""
    return np.flatnonzero(usable_boxes(split) & ~has_area(clipped_boxes(split)))


def rows_outside(split: WrittenSplit) -> Rows:
    """Return the annotations whose box sticks out of its image, and still has area inside."""
    clipped = clipped_boxes(split)
    moved = (np.abs(clipped - split.boxes) > _CLIP_TOLERANCE).any(axis=1)
    return np.flatnonzero(usable_boxes(split) & moved & has_area(clipped))


def rows_like_xyxy(split: WrittenSplit) -> Rows:
    """Return the annotations that stick out as x, y, w, h, if nearly all of the split are boxes as x1, y1, x2, y2."""
    usable = np.flatnonzero(usable_boxes(split))
    if len(usable) == 0:
        return usable
    low, high = split.boxes[usable, :2], split.boxes[usable, 2:]
    limit = split.sizes[split.image_rows[usable]][:, ::-1] + _CLIP_TOLERANCE
    as_corners = ((high > low) & (high <= limit)).all(axis=1)
    sticks_out = (low + high > limit).any(axis=1)
    suspicious = as_corners.mean() > 0.99 and sticks_out.mean() > 0.1
    return usable[sticks_out] if suspicious else usable[:0]


def usable_boxes(split: WrittenSplit) -> NDArray[np.bool_]:
    """Return which annotations have four numbers and an image of known size, (T,)."""
    measured = np.flatnonzero(_known_sizes(split))
    return np.asarray(np.isfinite(split.boxes).all(axis=1) & np.isin(split.image_rows, measured))


def clipped_boxes(split: WrittenSplit) -> NDArray[np.float64]:
    """Return the boxes (T, 4) clipped to their images; those inside stay exact, those outside have no area."""
    limit = np.zeros((len(split.boxes), 2))
    usable = usable_boxes(split)
    limit[usable] = split.sizes[split.image_rows[usable]][:, ::-1]
    low, high = split.boxes[:, :2], split.boxes[:, :2] + split.boxes[:, 2:]
    inside = ((low >= -_ROUNDING) & (high <= limit + _ROUNDING)).all(axis=1, keepdims=True)
    clipped = np.concatenate([low.clip(0, limit), high.clip(0, limit) - low.clip(0, limit)], axis=1)
    return np.where(inside, split.boxes, clipped)


def has_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which boxes (T, 4) have width and height, (T,)."""
    return np.asarray((boxes[:, 2:] > 0).all(axis=1))


def _known_sizes(split: WrittenSplit) -> NDArray[np.bool_]:
    return np.asarray((split.sizes > 0).all(axis=1))

"""Validation of raw annotations: problems found column by column, and the repairs made on loading."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anchordetr.console import printable
from anchordetr.data.dataset import AnnotationTable, Names
from anchordetr.data.findings import KINDS, Finding
from anchordetr.data.layouts.raw import NO_ID, RawSplit
from anchordetr.errors import InputError

log = logging.getLogger("anchordetr")

Rows = NDArray[np.int64]

_CLIP_TOLERANCE = 1.0  # pixels; smaller clips are rounding of annotation tools and get no message
_ROUNDING = 1e-3  # pixels; of float32 arithmetic


def validated_table(split: RawSplit) -> AnnotationTable:
    """Return the annotations that training and evaluation use; each kind of repair is counted in a warning.

    Raises:
        InputError: a problem cannot be repaired without guessing; the message lists all occurrences.
    """
    for note in split.notes:
        log.warning("%s", printable(f"{split.source}: {note}"))
    for finding in find_problems(split):
        if KINDS[finding.kind].severity == "error":
            raise InputError(finding.sentence(split.source))
        log.warning("%s", finding.sentence(split.source))
    return to_table(split)


def to_table(split: RawSplit) -> AnnotationTable:
    """Return the annotations with a listed image, a listed class and area inside the image, clipped to it."""
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


def find_problems(split: RawSplit) -> list[Finding]:
    """Return all problems that loading refuses, repairs or warns about, errors first."""
    missing = rows_without_file(split)
    unreadable = np.setdiff1d(np.flatnonzero(~_known_sizes(split)), missing)
    numbered = np.flatnonzero(split.box_ids != NO_ID)
    findings = [
        image_finding("missing_image", split, missing),
        image_finding("unreadable_image", split, unreadable),
        image_finding("duplicate_image_id", split, duplicates(split.image_ids), with_id=True),
        annotation_finding("duplicate_annotation_id", split, numbered[duplicates(split.box_ids[numbered])]),
        annotation_finding("unknown_category", split, np.flatnonzero(split.labels < 0), with_category=True),
        annotation_finding("not_a_number", split, np.flatnonzero(~np.isfinite(split.boxes).all(axis=1))),
        annotation_finding("looks_like_xyxy", split, rows_in_xyxy(split)),
        annotation_finding("unlisted_image", split, np.flatnonzero(split.image_rows < 0)),
        annotation_finding("no_area", split, rows_without_area(split)),
        annotation_finding("outside", split, rows_outside(split)),
        *split.findings,
    ]
    return [finding for finding in findings if finding.names]


def image_finding(kind: str, split: RawSplit, rows: Rows, with_id: bool = False) -> Finding:
    """Return a finding about images, named by file."""
    names = [split.file_names[row] + (f" (id {split.image_ids[row]})" if with_id else "") for row in rows]
    return Finding(kind, names, rows.tolist())


def annotation_finding(kind: str, split: RawSplit, rows: Rows, with_category: bool = False) -> Finding:
    """Return a finding about annotations, named as in the data set."""
    categories = split.box_categories
    names = [split.box_names[row] + (f" has category {categories[row]}" if with_category else "") for row in rows]
    images = np.unique(split.image_rows[rows])
    return Finding(kind, names, images[images >= 0].tolist())


def rows_without_file(split: RawSplit) -> Rows:
    """Return the rows of images whose file is missing."""
    return np.flatnonzero([not os.path.isfile(split.path(row)) for row in range(len(split.file_names))])


def duplicates(values: NDArray[Any]) -> Rows:
    """Return the positions of all values that occur more than once."""
    _, positions, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[positions] > 1)


def duplicate_rows(images: Rows, labels: Rows, boxes: NDArray[Any]) -> Rows:
    """Return the rows of boxes (T, 4) equal to an earlier box of the same image and class, rounded to pixels."""
    keys = np.column_stack([images, labels, boxes.round().astype(np.int64)])
    _, first = np.unique(keys, axis=0, return_index=True)
    return np.setdiff1d(np.arange(len(keys)), first)


def rows_without_area(split: RawSplit) -> Rows:
    """Return the annotations whose box has no area inside its image."""
    return np.flatnonzero(usable_boxes(split) & ~has_area(clipped_boxes(split)))


def rows_outside(split: RawSplit) -> Rows:
    """Return the annotations whose box extends beyond its image, and has area inside."""
    clipped = clipped_boxes(split)
    moved = (np.abs(clipped - split.boxes) > _CLIP_TOLERANCE).any(axis=1)
    return np.flatnonzero(usable_boxes(split) & moved & has_area(clipped))


def rows_in_xyxy(split: RawSplit) -> Rows:
    """Return the annotations that leave the image as x, y, w, h, if nearly all boxes are valid as x1, y1, x2, y2."""
    usable = np.flatnonzero(usable_boxes(split))
    if len(usable) == 0:
        return usable
    low, high = split.boxes[usable, :2], split.boxes[usable, 2:]
    limit = split.sizes[split.image_rows[usable]][:, ::-1] + _CLIP_TOLERANCE
    as_corners = ((high > low) & (high <= limit)).all(axis=1)
    leaves_image = (low + high > limit).any(axis=1)
    suspicious = as_corners.mean() > 0.99 and leaves_image.mean() > 0.1
    return usable[leaves_image] if suspicious else usable[:0]


def usable_boxes(split: RawSplit) -> NDArray[np.bool_]:
    """Return the mask (T,) of annotations with four finite numbers and an image of known size."""
    known = np.flatnonzero(_known_sizes(split))
    return np.asarray(np.isfinite(split.boxes).all(axis=1) & np.isin(split.image_rows, known))


def clipped_boxes(split: RawSplit) -> NDArray[np.float64]:
    """Return the boxes (T, 4) clipped to their images: boxes inside are unchanged, boxes outside have no area."""
    limit = np.zeros((len(split.boxes), 2))
    usable = usable_boxes(split)
    limit[usable] = split.sizes[split.image_rows[usable]][:, ::-1]
    low, high = split.boxes[:, :2], split.boxes[:, :2] + split.boxes[:, 2:]
    inside = ((low >= -_ROUNDING) & (high <= limit + _ROUNDING)).all(axis=1, keepdims=True)
    clipped = np.concatenate([low.clip(0, limit), high.clip(0, limit) - low.clip(0, limit)], axis=1)
    return np.where(inside, split.boxes, clipped)


def has_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the mask (T,) of boxes (T, 4) with positive width and height."""
    return np.asarray((boxes[:, 2:] > 0).all(axis=1))


def _known_sizes(split: RawSplit) -> NDArray[np.bool_]:
    return np.asarray((split.sizes > 0).all(axis=1))

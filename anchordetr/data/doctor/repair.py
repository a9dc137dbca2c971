"""A repaired copy of a data set in COCO's layout, with a list of all changes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.doctor.copying import CHANGES, image_names, split_names, write_split
from anchordetr.data.doctor.outputs import check_new_folder
from anchordetr.data.doctor.report import Report, SplitReport, size_mismatches
from anchordetr.data.ids import id_array
from anchordetr.data.images import read_orientation
from anchordetr.data.layouts.raw import NO_ID, RawSplit
from anchordetr.data.layouts.validation import clipped_boxes, duplicate_rows, has_area, rows_in_xyxy
from anchordetr.errors import InputError, reason
from anchordetr.files import write_json

Rows = NDArray[np.int64]

_SAME_RATIO = 0.01
_LARGEST_LOSS = 0.01  # of the images, or of the boxes, of a split
_EXAMPLES = 3
_FATAL = ("unusable", "class_mismatch", "no_splits")


class Change(NamedTuple):
    """One difference between the copy and the original: the split, the image or annotation, and what changed."""

    split: str
    name: str
    what: str


def write_repaired(report: Report, output: Path, accept_loss: bool = False) -> list[Change]:
    """Write a repaired copy of an examined data set, which training accepts, and ``changes.json``.

    Args:
        report: from :func:`~anchordetr.data.doctor.report.examine`.
        output: a folder that does not exist yet, or is empty.
        accept_loss: write the copy even if more than 1 % of the images or boxes of a split are left out.

    Returns:
        All changes, as listed in ``changes.json``.

    Raises:
        InputError: the output folder is not empty or cannot be written, a split cannot be read, the splits have
            different classes, or too much would be left out.
    """
    check_new_folder(output)
    fatal = [finding for finding in report.findings if finding.kind in _FATAL]
    if fatal:
        raise InputError(f"This cannot be repaired: {fatal[0].sentence(report.data)}")
    results: dict[str, RawSplit] = {}
    changes: list[Change] = []
    held_out: set[bytes] = set()
    for split in sorted(report.splits, key=lambda split: split.name.startswith("train")):
        results[split.name], of_split = repaired(split, held_out)
        changes += of_split
        held_out |= {image.digest for image in split.images}
    losses = _losses(report.splits, results)
    if losses and not accept_loss:
        raise InputError(_refusal(losses, changes))
    try:
        changes += _write(results, output)
        write_json(output / CHANGES, [change._asdict() for change in changes])
    except OSError as error:
        raise InputError(f"{output} is incomplete, remove it: {reason(error)}.") from error
    return changes


def _losses(splits: Sequence[SplitReport], results: Mapping[str, RawSplit]) -> list[str]:
    """Return what each split that would lose too much would lose."""
    losses = []
    for split in splits:
        before, after = split.raw, results[split.name]
        counts = {
            "images": (len(before.file_names), len(after.file_names)),
            "boxes": (len(before.boxes), len(after.boxes)),
        }
        lost = [
            f"{old - new} of {old} {what}" for what, (old, new) in counts.items() if old - new > _LARGEST_LOSS * old
        ]
        if lost:
            losses.append(f"{split.name} would lose {' and '.join(lost)}")
    return losses


def _refusal(losses: Sequence[str], changes: Sequence[Change]) -> str:
    examples = [f"{change.name}: {change.what}" for change in changes if "left out" in change.what][:_EXAMPLES]
    return (
        f"Nothing was written, because too much would be left out: {'; '.join(losses)}. "
        f"For example {'; '.join(examples)}. Correct the data set, or add --yes."
    )


def _write(results: Mapping[str, RawSplit], output: Path) -> list[Change]:
    """Write all splits and return what has another name than before."""
    changes = []
    for (old, raw), new in zip(results.items(), split_names(list(results)), strict=True):
        file_names = image_names(raw.file_names)
        write_split(new, raw, file_names, output)
        if new != old:
            changes.append(Change(old, "split", f"its name is now {new}"))
        renamed = zip(raw.file_names, file_names, strict=True)
        changes += [Change(old, before, f"its file is now {after}") for before, after in renamed if before != after]
    return changes


def repaired(split: SplitReport, held_out: set[bytes]) -> tuple[RawSplit, list[Change]]:
    """Return the repaired annotations of a split, and all changes.

    Args:
        held_out: hashes of images that belong to other splits and are left out of this one.
    """
    changes = [Change(split.name, "reading", note) for note in split.raw.notes]
    raw = _rotate_and_scale(split, changes)
    raw = _without_images(split, raw, held_out, changes)
    for step in (_from_corners, _without_bad_boxes, _clip, _without_duplicates, _renumber):
        raw = step(split.name, raw, changes)
    return raw, changes


def _rotate_and_scale(split: SplitReport, changes: list[Change]) -> RawSplit:
    """Fit boxes to the upright image: rotate those drawn on the image as stored, scale those of another resolution."""
    raw = split.raw
    boxes, areas, sizes = raw.boxes.copy(), raw.areas.copy(), raw.sizes.copy()
    for row in size_mismatches(raw, split.images).images:
        scanned, (height, width) = split.images[row], raw.sizes[row]
        own = np.flatnonzero(raw.image_rows == row)
        if (scanned.height, scanned.width) == (width, height):
            boxes[own] = rotate_boxes(boxes[own], int(height), int(width), read_orientation(raw.path(row)))
            what = f"boxes rotated from {width}x{height} to {height}x{width} pixels"
        elif abs(scanned.height * width / (scanned.width * height) - 1) <= _SAME_RATIO:
            scale = np.array([scanned.width / width, scanned.height / height])
            boxes[own] *= np.tile(scale, 2)
            areas[own] *= scale.prod()
            what = f"boxes scaled from {width}x{height} to {scanned.width}x{scanned.height} pixels"
        else:
            continue
        sizes[row] = scanned.height, scanned.width
        changes.append(Change(split.name, raw.file_names[row], what))
    return replace(raw, boxes=boxes, areas=areas, sizes=sizes)


def rotate_boxes(boxes: NDArray[np.float64], height: int, width: int, orientation: int) -> NDArray[np.float64]:
    """Return boxes (T, 4) x, y, w, h of an image as stored in the coordinates of the upright image.

    Args:
        height, width: pixels of the image as stored.
        orientation: EXIF orientation; 5 to 8 swap the axes, the others return the boxes unchanged.
    """
    x, y, w, h = boxes.T
    right, below = width - x - w, height - y - h
    upright = {5: (y, x), 6: (below, x), 7: (below, right), 8: (y, right)}
    if orientation not in upright:
        return boxes
    return np.column_stack([*upright[orientation], h, w])


def _without_images(split: SplitReport, raw: RawSplit, held_out: set[bytes], changes: list[Change]) -> RawSplit:
    """Leave out unusable images and record the cause of each."""
    holders: dict[int, set[bytes]] = defaultdict(set)
    first_rows: dict[bytes, int] = {}
    for row, (image_id, image) in enumerate(zip(raw.image_ids, split.images, strict=True)):
        holders[int(image_id)].add(image.digest)
        first_rows.setdefault(image.digest, row)
    left_out = []
    for row, image in enumerate(split.images):
        first = first_rows[image.digest]
        causes = {
            f"{image.error}": image.error is not None,
            "its annotations are for an image of another shape": (image.height, image.width) != tuple(raw.sizes[row]),
            f"different images share its id {raw.image_ids[row]}": len(holders[int(raw.image_ids[row])]) > 1,
            f"the same image as {raw.file_names[first]}": first != row,
            "another split has the same image": image.digest in held_out,
        }
        cause = next((cause for cause, applies in causes.items() if applies), None)
        if cause is not None:
            left_out.append(row)
            changes.append(Change(split.name, raw.file_names[row], f"image left out: {cause}"))
    return raw.without_images(np.array(left_out, dtype=np.int64))


def _from_corners(split: str, raw: RawSplit, changes: list[Change]) -> RawSplit:
    if len(rows_in_xyxy(raw)) == 0:
        return raw
    corners = raw.boxes
    areas = np.where(np.isclose(raw.areas, corners[:, 2] * corners[:, 3]), np.nan, raw.areas)
    changes += [Change(split, name, "box read as x1, y1, x2, y2") for name in raw.box_names]
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return replace(raw, boxes=boxes, areas=areas)


def _without_bad_boxes(split: str, raw: RawSplit, changes: list[Change]) -> RawSplit:
    bad = {
        "its image is not listed": raw.image_rows < 0,
        "its category is not listed": raw.labels < 0,
        "its bbox is not four finite numbers": ~np.isfinite(raw.boxes).all(axis=1),
        "its box has no area inside the image": ~has_area(clipped_boxes(raw)),
    }
    kept = np.ones(len(raw.boxes), dtype=np.bool_)
    for cause, rows in bad.items():
        changes += _left_out(split, raw, np.flatnonzero(rows & kept), cause)
        kept &= ~rows
    return _with_boxes(raw, np.flatnonzero(kept))


def _clip(split: str, raw: RawSplit, changes: list[Change]) -> RawSplit:
    clipped = clipped_boxes(raw)
    for row in np.flatnonzero((clipped != raw.boxes).any(axis=1)):
        what = f"box clipped from {raw.boxes[row].tolist()} to {clipped[row].tolist()}"
        changes.append(Change(split, raw.box_names[row], what))
    return replace(raw, boxes=clipped)


def _without_duplicates(split: str, raw: RawSplit, changes: list[Change]) -> RawSplit:
    rows = duplicate_rows(raw.image_rows, raw.labels, raw.boxes)
    changes += _left_out(split, raw, rows, "a duplicate of an earlier box of the same class")
    return _with_boxes(raw, np.setdiff1d(np.arange(len(raw.boxes)), rows))


def _renumber(split: str, raw: RawSplit, changes: list[Change]) -> RawSplit:
    """Assign new ids to annotations without an id, with the id 0, or with the id of an earlier annotation."""
    used = {int(box_id) for box_id in raw.box_ids}
    unused = (number for number in itertools.count(1) if number not in used)
    seen: set[int] = set()
    ids = []
    for name, given in zip(raw.box_names, map(int, raw.box_ids), strict=True):
        is_valid = given > 0 and given not in seen
        ids.append(given if is_valid else next(unused))
        seen.add(given)
        if not is_valid and given != NO_ID:
            changes.append(Change(split, name, f"annotation id is now {ids[-1]}"))
    return replace(raw, box_ids=id_array(ids))


def _left_out(split: str, raw: RawSplit, rows: Rows, cause: str) -> list[Change]:
    return [Change(split, raw.box_names[row], f"annotation left out: {cause}") for row in rows]


def _with_boxes(raw: RawSplit, rows: Rows) -> RawSplit:
    return raw.select(np.arange(len(raw.image_ids)), rows)

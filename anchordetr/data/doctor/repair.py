"""A repaired copy of a data set in COCO's layout, with a list of all changes."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.doctor.report import Report, SplitReport, size_mismatches
from anchordetr.data.images import read_orientation
from anchordetr.data.layouts.raw import NO_ID, RawSplit
from anchordetr.data.layouts.validation import clipped_boxes, duplicate_rows, has_area, rows_in_xyxy
from anchordetr.errors import InputError

Rows = NDArray[np.int64]

_SAME_RATIO = 0.01


class Change(NamedTuple):
    """One difference between the copy and the original: the split, the image or annotation, and what changed."""

    split: str
    name: str
    what: str


def write_repaired(report: Report, output: Path) -> list[Change]:
    """Write a repaired copy of an examined data set, which training accepts, and ``changes.json``.

    Args:
        report: from :func:`~anchordetr.data.doctor.report.examine`.
        output: a folder that does not exist yet, or is empty.

    Returns:
        All changes, as listed in ``changes.json``.

    Raises:
        InputError: the output folder is not empty, a split cannot be read, or the splits have different classes.
    """
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} is not empty; choose a new folder for the repaired copy.")
    fatal = [finding for finding in report.findings if finding.kind in ("unusable", "class_mismatch")]
    if fatal:
        raise InputError(f"This cannot be repaired: {fatal[0].sentence(report.data)}")
    changes: list[Change] = []
    held_out: set[bytes] = set()
    for split in sorted(report.splits, key=lambda split: split.name.startswith("train")):
        raw, of_split = repaired(split, held_out)
        changes += of_split
        held_out |= {image.digest for image in split.images}
        _write_split(split.name, raw, output)
    content = [change._asdict() for change in changes]
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (output / "changes.json").write_text(text, encoding="utf-8")
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
    """Leave out unusable images and record the reason of each."""
    holders: dict[int, set[bytes]] = defaultdict(set)
    first_rows: dict[bytes, int] = {}
    for row, (image_id, image) in enumerate(zip(raw.image_ids, split.images, strict=True)):
        holders[int(image_id)].add(image.digest)
        first_rows.setdefault(image.digest, row)
    left_out = []
    for row, image in enumerate(split.images):
        first = first_rows[image.digest]
        reasons = {
            f"{image.error}": image.error is not None,
            "its annotations are for an image of another shape": (image.height, image.width) != tuple(raw.sizes[row]),
            f"different images share its id {raw.image_ids[row]}": len(holders[int(raw.image_ids[row])]) > 1,
            f"the same image as {raw.file_names[first]}": first != row,
            "another split has the same image": image.digest in held_out,
        }
        reason = next((reason for reason, applies in reasons.items() if applies), None)
        if reason is not None:
            left_out.append(row)
            changes.append(Change(split.name, raw.file_names[row], f"image left out: {reason}"))
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
    for reason, rows in bad.items():
        changes += _left_out(split, raw, np.flatnonzero(rows & kept), reason)
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
    _, first = np.unique(raw.box_ids, return_index=True)
    wrong = np.setdiff1d(np.arange(len(raw.box_ids)), first[raw.box_ids[first] > 0])
    ids = raw.box_ids.copy()
    ids[wrong] = raw.box_ids.max(initial=0) + 1 + np.arange(len(wrong))
    given = wrong[raw.box_ids[wrong] != NO_ID]
    changes += [Change(split, raw.box_names[row], f"annotation id is now {ids[row]}") for row in given]
    return replace(raw, box_ids=ids)


def _left_out(split: str, raw: RawSplit, rows: Rows, reason: str) -> list[Change]:
    return [Change(split, raw.box_names[row], f"annotation left out: {reason}") for row in rows]


def _with_boxes(raw: RawSplit, rows: Rows) -> RawSplit:
    return raw.select(np.arange(len(raw.image_ids)), rows)


def _write_split(name: str, raw: RawSplit, output: Path) -> None:
    """Write ``annotations/instances_NAME.json`` and copy the images to ``NAME/``."""
    (output / name).mkdir(parents=True, exist_ok=True)
    file_names = [_inside(file_name, int(raw.image_ids[row])) for row, file_name in enumerate(raw.file_names)]
    for row, file_name in enumerate(file_names):
        target = output / name / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(raw.path(row), target)
    folder = output / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_coco(raw, file_names), ensure_ascii=False)
    (folder / f"instances_{name}.json").write_text(text, encoding="utf-8")


def _inside(file_name: str, image_id: int) -> str:
    """Return a relative file name that does not leave its folder."""
    name = PurePath(file_name)
    return f"{image_id}_{name.name}" if name.is_absolute() or ".." in name.parts else file_name


def _coco(raw: RawSplit, file_names: Sequence[str]) -> dict[str, Any]:
    areas = np.where(raw.areas > 0, raw.areas, raw.boxes[:, 2] * raw.boxes[:, 3])
    images = [
        {"id": int(image_id), "file_name": file_name, "height": int(height), "width": int(width)}
        for image_id, file_name, (height, width) in zip(raw.image_ids, file_names, raw.sizes, strict=True)
    ]
    annotations = [
        {
            "id": int(raw.box_ids[row]),
            "image_id": int(raw.box_image_ids[row]),
            "category_id": int(raw.box_categories[row]),
            "bbox": box.tolist(),
            "area": float(areas[row]),
            "iscrowd": int(raw.crowd[row]),
        }
        for row, box in enumerate(raw.boxes)
    ]
    names = zip(raw.category_ids, raw.class_names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in names]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

"""A repaired copy of a data set, in COCO's layout, and the list of everything that was changed for it."""

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

from anchordetr.data.doctor.image_scan import select, without_images
from anchordetr.data.doctor.report import Report, SplitReport, wrongly_sized
from anchordetr.data.doctor.validation import clipped_boxes, has_area, repeated_boxes, rows_like_xyxy
from anchordetr.data.images import read_orientation
from anchordetr.data.layouts.raw import NO_ID, WrittenSplit
from anchordetr.errors import InputError

Rows = NDArray[np.int64]

_SAME_RATIO = 0.01


class Change(NamedTuple):
    """One thing that the copy has otherwise than the original: in which split, what, and how it was and is."""

    split: str
    name: str
    what: str


def write_repaired(report: Report, output: Path) -> list[Change]:
    """Write a copy of an examined data set that training takes without complaint, and ``changes.json`` beside it.

    Args:
        report: see :func:`~anchordetr.data.doctor.report.examine`.
        output: a folder that does not exist yet, or is empty.

    Returns:
        Every change, also those listed in ``changes.json``.

    Raises:
        InputError: the folder holds something, or a split cannot be read at all.
    """
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} is not empty; choose a new folder for the repaired copy.")
    fatal = [finding for finding in report.findings if finding.kind in ("unusable", "class_mismatch")]
    if fatal:
        raise InputError(f"This cannot be repaired: {fatal[0].sentence(report.data)}")
    changes: list[Change] = []
    held_out: set[bytes] = set()
    for split in sorted(report.splits, key=lambda split: split.name.startswith("train")):
        written, of_split = repaired(split, held_out)
        changes += of_split
        held_out |= {image.digest for image in split.images}
        _write_split(split.name, written, output)
    content = [change._asdict() for change in changes]
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (output / "changes.json").write_text(text, encoding="utf-8")
    return changes


def repaired(split: SplitReport, held_out: set[bytes]) -> tuple[WrittenSplit, list[Change]]:
    """Return the annotations of a split without its faults, and every change.

    Args:
        held_out: hashes of images that other splits keep for themselves; ``train`` gives way to all others.
    """
    changes = [Change(split.name, "reading", note) for note in split.written.notes]
    written = _turn_and_scale(split, changes)
    written = _without_images(split, written, held_out, changes)
    for step in (_from_corners, _without_bad_boxes, _clip, _without_duplicates, _renumber):
        written = step(split.name, written, changes)
    return written, changes


def _turn_and_scale(split: SplitReport, changes: list[Change]) -> WrittenSplit:
    """Make annotations fit the upright image: boxes made before EXIF turned it are turned, others scaled."""
    written = split.written
    boxes, areas, sizes = written.boxes.copy(), written.areas.copy(), written.sizes.copy()
    for row in wrongly_sized(written, split.images).images:
        scanned, (height, width) = split.images[row], written.sizes[row]
        mine = np.flatnonzero(written.image_rows == row)
        if (scanned.height, scanned.width) == (width, height):
            boxes[mine] = turned(boxes[mine], int(height), int(width), read_orientation(written.path(row)))
            what = f"boxes turned from {width}x{height} to {height}x{width} pixels"
        elif abs(scanned.height * width / (scanned.width * height) - 1) <= _SAME_RATIO:
            scale = np.array([scanned.width / width, scanned.height / height])
            boxes[mine] *= np.tile(scale, 2)
            areas[mine] *= scale.prod()
            what = f"boxes scaled from {width}x{height} to {scanned.width}x{scanned.height} pixels"
        else:
            continue
        sizes[row] = scanned.height, scanned.width
        changes.append(Change(split.name, written.file_names[row], what))
    return replace(written, boxes=boxes, areas=areas, sizes=sizes)


def turned(boxes: NDArray[np.float64], height: int, width: int, orientation: int) -> NDArray[np.float64]:
    """Turn boxes (T, 4) x, y, w, h of an image as stored (height, width) to the upright one of an EXIF orientation."""
    x, y, w, h = boxes.T
    right, below = width - x - w, height - y - h
    upright = {5: (y, x), 6: (below, x), 7: (below, right), 8: (y, right)}
    if orientation not in upright:
        return boxes
    return np.column_stack([*upright[orientation], h, w])


def _without_images(
    split: SplitReport, written: WrittenSplit, held_out: set[bytes], changes: list[Change]
) -> WrittenSplit:
    """Leave out images that cannot be used, each with the reason."""
    holders: dict[int, set[bytes]] = defaultdict(set)
    first_rows: dict[bytes, int] = {}
    for row, (image_id, image) in enumerate(zip(written.image_ids, split.images, strict=True)):
        holders[int(image_id)].add(image.digest)
        first_rows.setdefault(image.digest, row)
    left_out = []
    for row, image in enumerate(split.images):
        first = first_rows[image.digest]
        reasons = {
            f"{image.error}": image.error is not None,
            "its annotations are for an image of another shape": (image.height, image.width)
            != tuple(written.sizes[row]),
            f"different images share its id {written.image_ids[row]}": len(holders[int(written.image_ids[row])]) > 1,
            f"the same image as {written.file_names[first]}": first != row,
            "another split holds the same image": image.digest in held_out,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), None)
        if reason is not None:
            left_out.append(row)
            changes.append(Change(split.name, written.file_names[row], f"image left out: {reason}"))
    return without_images(written, np.array(left_out, dtype=np.int64))


def _from_corners(split: str, written: WrittenSplit, changes: list[Change]) -> WrittenSplit:
    if len(rows_like_xyxy(written)) == 0:
        return written
    corners = written.boxes
    areas = np.where(np.isclose(written.areas, corners[:, 2] * corners[:, 3]), np.nan, written.areas)
    changes += [Change(split, name, "box read as x1, y1, x2, y2") for name in written.box_names]
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return replace(written, boxes=boxes, areas=areas)


def _without_bad_boxes(split: str, written: WrittenSplit, changes: list[Change]) -> WrittenSplit:
    bad = {
        "its image is not listed": written.image_rows < 0,
        "its category is not listed": written.labels < 0,
        "its bbox is not four finite numbers": ~np.isfinite(written.boxes).all(axis=1),
        "its box has no area inside the image": ~has_area(clipped_boxes(written)),
    }
    kept = np.ones(len(written.boxes), dtype=np.bool_)
    for reason, rows in bad.items():
        changes += _left_out(split, written, np.flatnonzero(rows & kept), reason)
        kept &= ~rows
    return _with_boxes(written, np.flatnonzero(kept))


def _clip(split: str, written: WrittenSplit, changes: list[Change]) -> WrittenSplit:
    clipped = clipped_boxes(written)
    for row in np.flatnonzero((clipped != written.boxes).any(axis=1)):
        what = f"box clipped from {written.boxes[row].tolist()} to {clipped[row].tolist()}"
        changes.append(Change(split, written.box_names[row], what))
    return replace(written, boxes=clipped)


def _without_duplicates(split: str, written: WrittenSplit, changes: list[Change]) -> WrittenSplit:
    rows = repeated_boxes(written.image_rows, written.labels, written.boxes)
    changes += _left_out(split, written, rows, "the same box and class is there already")
    return _with_boxes(written, np.setdiff1d(np.arange(len(written.boxes)), rows))


def _renumber(split: str, written: WrittenSplit, changes: list[Change]) -> WrittenSplit:
    """Give new ids to annotations without one, with the id 0, or with the id of an earlier one."""
    _, first = np.unique(written.box_ids, return_index=True)
    wrong = np.setdiff1d(np.arange(len(written.box_ids)), first[written.box_ids[first] > 0])
    ids = written.box_ids.copy()
    ids[wrong] = written.box_ids.max(initial=0) + 1 + np.arange(len(wrong))
    given = wrong[written.box_ids[wrong] != NO_ID]
    changes += [Change(split, written.box_names[row], f"annotation id is now {ids[row]}") for row in given]
    return replace(written, box_ids=ids)


def _left_out(split: str, written: WrittenSplit, rows: Rows, reason: str) -> list[Change]:
    return [Change(split, written.box_names[row], f"annotation left out: {reason}") for row in rows]


def _with_boxes(written: WrittenSplit, rows: Rows) -> WrittenSplit:
    return select(written, np.arange(len(written.image_ids)), rows)


def _write_split(name: str, written: WrittenSplit, output: Path) -> None:
    """Write ``annotations/instances_NAME.json`` and copy the images to ``NAME/``."""
    (output / name).mkdir(parents=True, exist_ok=True)
    file_names = [_inside(file_name, int(written.image_ids[row])) for row, file_name in enumerate(written.file_names)]
    for row, file_name in enumerate(file_names):
        target = output / name / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(written.path(row), target)
    folder = output / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_coco(written, file_names), ensure_ascii=False)
    (folder / f"instances_{name}.json").write_text(text, encoding="utf-8")


def _inside(file_name: str, image_id: int) -> str:
    """Return a relative name that stays inside its folder."""
    name = PurePath(file_name)
    return f"{image_id}_{name.name}" if name.is_absolute() or ".." in name.parts else file_name


def _coco(written: WrittenSplit, file_names: Sequence[str]) -> dict[str, Any]:
    areas = np.where(written.areas > 0, written.areas, written.boxes[:, 2] * written.boxes[:, 3])
    images = [
        {"id": int(image_id), "file_name": file_name, "height": int(height), "width": int(width)}
        for image_id, file_name, (height, width) in zip(written.image_ids, file_names, written.sizes, strict=True)
    ]
    annotations = [
        {
            "id": int(written.box_ids[row]),
            "image_id": int(written.box_image_ids[row]),
            "category_id": int(written.box_categories[row]),
            "bbox": box.tolist(),
            "area": float(areas[row]),
            "iscrowd": int(written.crowd[row]),
        }
        for row, box in enumerate(written.boxes)
    ]
    names = zip(written.category_ids, written.class_names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in names]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

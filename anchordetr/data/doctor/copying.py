"""A copy of a split in COCO's layout, under names that stay below its folder and never replace each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from anchordetr.data.layouts.raw import RawSplit
from anchordetr.disk import explained
from anchordetr.files import safe_name, write_text

_ANNOTATIONS = "annotations"
CHANGES = "changes.json"
_DEEPEST = 8  # folders


def write_split(name: str, raw: RawSplit, file_names: Sequence[str], output: Path) -> None:
    """Write ``annotations/instances_NAME.json`` and copy the images to ``NAME/``.

    Args:
        name: of the split, from :func:`split_names`.
        file_names: of the copied images, from :func:`image_names`.

    Raises:
        OSError: a file exists or cannot be written; a full disk is a :class:`~anchordetr.errors.WriteError`.
    """
    (output / name).mkdir(parents=True)
    for row, file_name in enumerate(file_names):
        source, target = raw.path(row), output / name / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        size = source.stat().st_size
        with source.open("rb") as image, target.open("xb") as copy, explained(target, target, size):
            shutil.copyfileobj(image, copy)
            copy.flush()
    (output / _ANNOTATIONS).mkdir(exist_ok=True)
    write_text(output / _ANNOTATIONS / f"instances_{name}.json", json.dumps(_coco(raw, file_names), ensure_ascii=False))


def split_names(names: Sequence[str]) -> list[str]:
    """Return a safe name of each split, which is that of its folder too."""
    taken = {_ANNOTATIONS, CHANGES}
    return [safe_name(name, taken) for name in names]


def image_names(names: Sequence[str]) -> list[str]:
    """Return a safe path of each image, relative to the folder of its split: the listed one if possible.

    All differ, also where upper and lower case are equal, and none is a folder of another one.
    """
    files: set[str] = set()
    folders: set[str] = set()
    chosen: list[str | None] = []
    for name in names:
        lower = name.lower()
        parents = {str(parent) for parent in PurePosixPath(lower).parents} - {"."}
        kept = _is_safe(name) and lower not in files | folders and not parents & files
        if kept:
            files.add(lower)
            folders |= parents
        chosen.append(name if kept else None)
    taken = files | folders
    return [safe_name(name, taken) if kept is None else kept for name, kept in zip(names, chosen, strict=True)]


def _is_safe(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= _DEEPEST and all(safe_name(part, set()) == part for part in parts)


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

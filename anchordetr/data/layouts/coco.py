"""Data sets in COCO's format: ``annotations/instances_{train,val}*.json`` beside the image folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.raw import NO_ID, RawSplit
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

_REQUIRED = object()


@DATA_LAYOUTS.register("coco")
class CocoDataset(FolderDataset):
    """One annotation file and the folder of its images. Category ids may have gaps; classes follow their order."""

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what keeps ``path`` from being a data set of this layout, or None."""
        if any((path / "annotations").glob("instances_*.json")):
            return None
        return "no annotations/instances_*.json"

    @classmethod
    def splits(cls, path: Path) -> dict[str, Path]:
        """Return the annotation file of each split."""
        files = sorted((path / "annotations").glob("instances_*.json"))
        return {file.stem.removeprefix("instances_"): file for file in files}

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Read the annotations of a split as they are written.

        Raises:
            InputError: the split or its image folder is not there, or the file is no COCO annotation file.
        """
        file = choose_split(path, split, cls.splits(path))
        name = file.stem.removeprefix("instances_")
        folders = [path / name, path / "images" / name, path / split, path / "images" / split, path / "images"]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise InputError(f"{path} has no folder for the images of {file.name}; expected {folders[0]}.")
        return read_coco(file, folder)


def read_coco(file: Path, image_folder: Path) -> RawSplit:
    """Read a COCO annotation file; ``info``, ``area`` and ``iscrowd`` may be missing, and sizes: images tell them.

    Raises:
        InputError: names the file and the position, the part or the entry that is wrong.
    """
    content = read_annotations(file)
    images, annotations = content["images"], content["annotations"]
    categories, notes = _categories(file, content["categories"], annotations)
    ids = _integers(file, "annotations", annotations, "id", NO_ID)
    crowd = _column(file, "annotations", annotations, "iscrowd", (int, type(None)), "0 or 1", None)
    areas = _column(file, "annotations", annotations, "area", (int, float, type(None)), "a number", None)
    file_names: list[str] = _column(file, "images", images, "file_name", (str,), "a string")
    return RawSplit(
        source=file,
        root=image_folder,
        class_names=[str(category["name"]) for category in categories],
        category_ids=[category["id"] for category in categories],
        image_ids=_integers(file, "images", images, "id"),
        file_names=file_names,
        sizes=_sizes(file, images, [image_folder / name for name in file_names]),
        box_ids=ids,
        box_names=[f"annotation {i if i != NO_ID else f'number {row}'}" for row, i in enumerate(ids)],
        box_image_ids=_integers(file, "annotations", annotations, "image_id"),
        boxes=np.array([_box(entry.get("bbox")) for entry in annotations], dtype=np.float64).reshape(-1, 4),
        box_categories=_integers(file, "annotations", annotations, "category_id"),
        areas=np.array([np.nan if area is None else area for area in areas], dtype=np.float64),
        crowd=np.array([bool(value) for value in crowd], dtype=np.bool_),
        notes=notes,
    )


def read_annotations(file: Path) -> dict[str, Any]:
    """Read a COCO annotation file.

    Raises:
        InputError: names the file and the position or the part that is missing.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold an object with 'images', 'annotations' and 'categories'.")
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise InputError(f"{file} has no list '{part}'; a COCO annotation file needs one.")
    return content


def _categories(
    file: Path, categories: list[Any], annotations: list[Any]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the categories in the order of their ids, without the dummy parent that Roboflow adds, and a note of it.

    The parent has the supercategory ``none``, is the supercategory of others, and no annotation uses it.
    """
    ids = _integers(file, "categories", categories, "id").tolist()
    _column(file, "categories", categories, "name", (str, int), "a string")
    names = [category["name"] for category in categories]
    for values, what in ((ids, "id"), (names, "name")):
        twice = sorted({value for value in values if values.count(value) > 1}, key=str)
        if twice:
            raise InputError(f"{file} gives the category {what} {twice[0]!r} to several categories; rename them.")
    used = {entry.get("category_id") for entry in annotations if isinstance(entry, dict)}
    parents = {category.get("supercategory") for category in categories}
    dummies = [
        category
        for category in categories
        if category.get("supercategory") == "none" and category["name"] in parents and category["id"] not in used
    ]
    kept = [category for category in categories if category not in dummies]
    notes = tuple(
        f"category {dummy['id']} '{dummy['name']}' is the parent of the others and has no boxes; left out."
        for dummy in dummies
    )
    return sorted(kept, key=lambda category: int(category["id"])), notes


def _column(
    file: Path,
    part: str,
    entries: Sequence[Any],
    key: str,
    types: tuple[type, ...],
    wanted: str,
    default: Any = _REQUIRED,
) -> list[Any]:
    """Return one value of every entry; an entry of another type is named in an InputError."""
    values = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{file}: {part}[{position}] is {str(entry)[:40]!r}; expected an object.")
        value = entry.get(key, default)
        if not isinstance(value, types):
            given = "nothing" if value is _REQUIRED else repr(value)
            raise InputError(
                f"{file}: {part}[{position}] (id {entry.get('id')}) needs {wanted} as '{key}'; got {given}."
            )
        values.append(value)
    return values


def _integers(file: Path, part: str, entries: Sequence[Any], key: str, default: Any = _REQUIRED) -> NDArray[np.int64]:
    values = _column(file, part, entries, key, (int,), "an integer", default)
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        raise InputError(f"{file}: an '{key}' in {part} does not fit into 64 bits: {max(values, key=abs)}.") from None


def _sizes(file: Path, images: Sequence[Any], paths: Sequence[Path]) -> NDArray[np.int64]:
    """Return height and width of each image, (I, 2), read from the image where the file does not tell."""
    columns = [
        _column(file, "images", images, key, (int, float, type(None)), "a number", None) for key in ("height", "width")
    ]
    written = np.array([[side or 0 for side in column] for column in columns], dtype=np.float64).T.reshape(-1, 2)
    sizes: NDArray[np.int64] = written.round().astype(np.int64)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1)).tolist()
    sizes[unknown] = read_sizes([paths[row] for row in unknown])
    return sizes


def _box(value: Any) -> tuple[float, float, float, float]:
    """Return x, y, w, h, all NaN where the value is no list of four numbers."""
    try:
        x, y, w, h = (float(number) for number in value)
    except (TypeError, ValueError):
        return (np.nan,) * 4
    return x, y, w, h

"""The COCO layout: ``annotations/instances_{train,val}*.json`` beside the image folders."""

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
    """One annotation file and its image folder. Category ids may have gaps; class indices follow their order."""

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""
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
        """Return the raw annotations of a split.

        Raises:
            InputError: the split or its image folder is missing, or the file is not a COCO annotation file.
        """
        file = choose_split(path, split, cls.splits(path))
        name = file.stem.removeprefix("instances_")
        folders = [path / name, path / "images" / name, path / split, path / "images" / split, path / "images"]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise InputError(f"{path} has no folder for the images of {file.name}; expected {folders[0]}.")
        return read_coco(file, folder)


def read_coco(file: Path, image_folder: Path) -> RawSplit:
    """Return the raw annotations of a COCO file.

    ``info``, ``area`` and ``iscrowd`` are optional. Missing ``height`` and ``width`` are read from the images.

    Raises:
        InputError: the file is invalid; the message names the file and the position, the list or the entry.
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
    """Return the JSON object of a COCO annotation file.

    Raises:
        InputError: it is not valid JSON or lacks a list; the message names the file and the position or the list.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} must contain an object with 'images', 'annotations' and 'categories'.")
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise InputError(f"{file} has no list '{part}'; a COCO annotation file needs one.")
    return content


def _categories(
    file: Path, categories: list[Any], annotations: list[Any]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the categories sorted by id without Roboflow's dummy parent, and a note about each one left out.

    The dummy parent has the supercategory ``none``, is the supercategory of others, and has no annotations.
    """
    ids = _integers(file, "categories", categories, "id").tolist()
    _column(file, "categories", categories, "name", (str, int), "a string")
    names = [category["name"] for category in categories]
    for values, key in ((ids, "id"), (names, "name")):
        duplicates = sorted({value for value in values if values.count(value) > 1}, key=str)
        if duplicates:
            raise InputError(f"{file} gives the category {key} {duplicates[0]!r} to several categories; rename them.")
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
    expected: str,
    default: Any = _REQUIRED,
) -> list[Any]:
    """Return the value of ``key`` in every entry; raise an InputError that names the first of another type."""
    values = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{file}: {part}[{position}] is {str(entry)[:40]!r}; expected an object.")
        value = entry.get(key, default)
        if not isinstance(value, types):
            given = "nothing" if value is _REQUIRED else repr(value)
            raise InputError(
                f"{file}: {part}[{position}] (id {entry.get('id')}) needs {expected} as '{key}'; got {given}."
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
    """Return height and width of each image, (I, 2), read from the image where the file lacks them."""
    columns = [
        _column(file, "images", images, key, (int, float, type(None)), "a number", None) for key in ("height", "width")
    ]
    given = np.array([[side or 0 for side in column] for column in columns], dtype=np.float64).T.reshape(-1, 2)
    sizes: NDArray[np.int64] = given.round().astype(np.int64)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1)).tolist()
    sizes[unknown] = read_sizes([paths[row] for row in unknown])
    return sizes


def _box(value: Any) -> tuple[float, float, float, float]:
    """Return x, y, w, h, all NaN unless the value is a list of four numbers."""
    try:
        x, y, w, h = (float(number) for number in value)
    except (TypeError, ValueError):
        return (np.nan,) * 4
    return x, y, w, h

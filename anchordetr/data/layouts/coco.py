"""The COCO layout: ``annotations/instances_{train,val}*.json``, or COCO files of any name, beside the images."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.ids import id_array
from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.coco_files import (
    annotation_files,
    data_folder,
    folder_name,
    instance_files,
    is_json,
)
from anchordetr.data.layouts.entries import (
    Entries,
    box_or_nan,
    parse_area,
    parse_class_name,
    parse_file_name,
    parse_flag,
    side_or_unknown,
)
from anchordetr.data.layouts.image_files import locate_images
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.raw import NO_ID, RawSplit
from anchordetr.data.layouts.segmentation import box_of_segmentation
from anchordetr.documents import read_json
from anchordetr.errors import InputError
from anchordetr.files import list_folders
from anchordetr.registry import DATA_LAYOUTS

_LARGEST_FILE = 16 * 2**30  # bytes; Objects365 has 6 GB
_NO_BOX: tuple[object, ...] = (None, [], [0, 0, 0, 0])  # as tools write it beside a segmentation


@DATA_LAYOUTS.register("coco")
class CocoDataset(FolderDataset):
    """One annotation file and its image folder. Category ids may have gaps; class indices follow their order."""

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""
        return (
            None if is_json(path) or instance_files(path) else "no annotations/instances_*.json, and no other COCO file"
        )

    @classmethod
    def splits(cls, path: Path) -> dict[str, Path]:
        """Return the annotation file of each split."""
        return annotation_files(path)

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: the split or its image folder is missing, or the file is not a COCO annotation file.
        """
        files = cls.splits(path)
        file = choose_split(path, split, files)
        path = data_folder(path)
        names = [name for name in (folder_name(file), split) if name.strip(".")]
        folders = [folder / name for name in names for folder in (path, path / "images")] + [path / "images"]
        existing = [folder for folder in folders if folder.is_dir()]
        others = list_folders(path) if len(files) == 1 else []  # with several files, they may be another split's
        raw = read_coco(file, [*existing, path, *others], path)
        if not existing and not any(os.path.isfile(raw.path(row)) for row in range(len(raw.file_names))):
            raise InputError(f"{path} has no folder for the images of {file.name}; expected {folders[0]}.")
        return raw


def read_coco(file: Path, image_folders: Sequence[Path], data: Path) -> RawSplit:
    """Return the raw annotations of a COCO file.

    ``info``, ``area`` and ``iscrowd`` are optional. Sizes that are missing, or no whole numbers, are read from the
    images. Boxes that are missing are those of the segmentations.

    Args:
        file: the annotation file.
        image_folders: existing folders, see :func:`~anchordetr.data.layouts.image_files.locate_images`.
        data: the folder of the data set.

    Raises:
        InputError: the file is invalid; the message names the file and the position, the list or the entry.
    """
    content = read_annotations(file)
    images, annotations, categories = (
        Entries(file, part, content[part]) for part in ("images", "annotations", "categories")
    )
    box_categories = annotations.ids("category_id")
    names, class_notes = _classes(file, categories, set(box_categories))
    located = locate_images(
        images.column("file_name", parse_file_name, "a string that names a file"), image_folders, data
    )
    sizes, size_notes = _sizes(images, [located.root / name for name in located.names])
    boxes, box_notes = _boxes(annotations)
    box_ids = annotations.ids("id", NO_ID)
    image_ids, box_image_ids = images.ids("id"), annotations.ids("image_id")
    converted = sum(part.converted for part in (images, annotations, categories))
    id_note = f"ids that are strings of digits or whole floats, read as integers: {converted}."
    return RawSplit(
        source=file,
        root=located.root,
        class_names=list(names.values()),
        category_ids=list(names),
        image_ids=id_array(image_ids),
        file_names=located.names,
        sizes=sizes,
        box_ids=id_array(box_ids),
        box_names=[f"annotation {i if i != NO_ID else f'number {row}'}" for row, i in enumerate(box_ids)],
        box_image_ids=id_array(box_image_ids),
        boxes=boxes,
        box_categories=id_array(box_categories),
        areas=np.array(annotations.column("area", parse_area, "a finite number", math.nan), dtype=np.float64),
        crowd=np.array(annotations.column("iscrowd", parse_flag, "0 or 1", False), dtype=np.bool_),
        notes=(*class_notes, *located.notes, *size_notes, *box_notes, *([id_note] if converted else [])),
    )


def read_annotations(file: Path) -> dict[str, Any]:
    """Return the JSON object of a COCO annotation file.

    Raises:
        InputError: it is not valid JSON or lacks a list; the message names the file and the position or the list.
    """
    content = read_json(file, _LARGEST_FILE)
    if not isinstance(content, dict):
        raise InputError(f"{file} must contain an object with 'images', 'annotations' and 'categories'.")
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise InputError(f"{file} has no list '{part}'; a COCO annotation file needs one.")
    return content


def _classes(file: Path, categories: Entries, used: set[int]) -> tuple[dict[int, str], list[str]]:
    """Return the name of each category id, sorted by id, without Roboflow's dummy parent, and a note about it.

    The dummy parent has the supercategory ``none``, is the supercategory of others, and has no annotations.
    """
    ids = categories.ids("id")
    names = categories.column("name", parse_class_name, "text that is not blank and can be written as UTF-8")
    columns: tuple[tuple[str, Sequence[object]], ...] = (("id", ids), ("name", names))
    for key, values in columns:
        duplicates = [value for value, count in Counter(values).items() if count > 1]
        if duplicates:
            raise InputError(f"{file} gives the category {key} {duplicates[0]!r} to several categories; rename them.")
    parents = [category.get("supercategory") for category in categories.entries]
    classes = dict(zip(ids, names, strict=True))
    notes = []
    for category_id, name, parent in zip(ids, names, parents, strict=True):
        if parent == "none" and category_id not in used and name in parents:
            del classes[category_id]
            notes.append(f"category {category_id} '{name}' is the parent of the others and has no boxes; left out.")
    return dict(sorted(classes.items())), notes


def _sizes(images: Entries, paths: Sequence[Path]) -> tuple[NDArray[np.int64], list[str]]:
    """Return height and width of each image, (I, 2), and a note about unusable ones, which are read from the image."""
    given = [[image.get("height"), image.get("width")] for image in images.entries]
    sizes = np.array([[side_or_unknown(side) for side in size] for size in given], dtype=np.int64).reshape(-1, 2)
    unknown = np.flatnonzero((sizes == 0).any(axis=1)).tolist()
    sizes[unknown] = read_sizes([paths[row] for row in unknown])
    wrong = [row for row in unknown if any(side not in (None, 0) and not side_or_unknown(side) for side in given[row])]
    note = f"images whose size is no whole number of pixels, which is read from the file: {len(wrong)}."
    return sizes, [note] if wrong else []


def _boxes(annotations: Entries) -> tuple[NDArray[np.float64], list[str]]:
    """Return x, y, w, h of each annotation, (T, 4), and a note about those of segmentations."""
    boxes = []
    derived = 0
    for entry in annotations.entries:
        given = entry.get("bbox")
        box = box_of_segmentation(entry.get("segmentation")) if given in _NO_BOX else None
        derived += box is not None
        boxes.append(box or box_or_nan(given))
    note = f"annotations without a box, whose segmentation gives it: {derived}."
    return np.array(boxes, dtype=np.float64).reshape(-1, 4), [note] if derived else []

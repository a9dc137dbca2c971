"""Data sets in COCO's format: ``annotations/instances_{train,val}*.json`` beside the image folders."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from anchordetr.data.dataset import AnnotationTable, DetectionDataset, ImageRecord
from anchordetr.data.images import read_image
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

log = logging.getLogger("anchordetr")


@DATA_LAYOUTS.register("coco")
class CocoDataset(DetectionDataset):
    """One annotation file and the folder of its pictures.

    Category ids may have gaps; class indices follow their order. Boxes are clipped to the picture, boxes without
    area are dropped, and both are counted in a warning.

    Raises:
        InputError: the file is no COCO annotation file, or pictures are missing.
    """

    def __init__(self, annotation_file: Path, image_folder: Path) -> None:
        self.image_folder = image_folder
        content = read_annotations(annotation_file)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.category_ids = [category["id"] for category in categories]
        self.class_names = [str(category["name"]) for category in categories]
        self.annotations = AnnotationTable.of(_records(content, self.category_ids, annotation_file))
        self._check_files(annotation_file)

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what keeps ``path`` from being a data set of this layout, or None."""
        if any((path / "annotations").glob("instances_*.json")):
            return None
        return "no annotations/instances_*.json"

    @classmethod
    def open(cls, path: Path, split: str) -> CocoDataset:
        """Open a split.

        Raises:
            InputError: the split or its image folder is not there.
        """
        files = sorted((path / "annotations").glob(f"instances_{split}*.json"))
        if not files:
            splits = sorted(file.stem.removeprefix("instances_") for file in path.glob("annotations/instances_*.json"))
            raise InputError(f"{path} has no split '{split}'; it has {', '.join(splits)}.")
        name = files[0].stem.removeprefix("instances_")
        folders = [path / name, path / "images" / name, path / split, path / "images" / split, path / "images"]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise InputError(f"{path} has no folder for the images of {files[0].name}; expected {folders[0]}.")
        return cls(files[0], folder)

    def image(self, index: int) -> Tensor:
        file = self.image_folder / str(self.annotations.file_names[index])
        return read_image(file, str(file))

    def _check_files(self, annotation_file: Path) -> None:
        missing = [name for name in self.annotations.file_names if not (self.image_folder / str(name)).is_file()]
        if missing:
            listed = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            raise InputError(
                f"{annotation_file} names {len(missing)} images that are not in {self.image_folder}: {listed}"
            )


def read_annotations(file: Path) -> dict[str, Any]:
    """Read a COCO annotation file.

    Raises:
        InputError: names the file and the position or the part that is missing.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold an object with 'images', 'annotations' and 'categories'.")
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise InputError(f"{file} has no list '{part}'; a COCO annotation file needs one.")
    return content


def _records(content: dict[str, Any], category_ids: list[int], file: Path) -> list[ImageRecord]:
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    labels = {category_id: index for index, category_id in enumerate(category_ids)}
    records = []
    dropped = clipped = 0
    for image in content["images"]:
        annotations = by_image.get(image["id"], [])
        for annotation in annotations:
            if annotation["category_id"] not in labels:
                raise InputError(
                    f"{file}: annotation {annotation.get('id')} has category {annotation['category_id']}, "
                    "which is not among its categories."
                )
        given = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float32).reshape(-1, 4)
        boxes = clip_boxes(given, image["height"], image["width"])
        keep = (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
        dropped += int((~keep).sum())
        clipped += int(((np.abs(boxes - given) > 1).any(axis=1) & keep).sum())
        kept = [annotation for annotation, wanted in zip(annotations, keep, strict=True) if wanted]
        box_areas = boxes[keep, 2] * boxes[keep, 3]
        records.append(
            ImageRecord(
                image_id=image["id"],
                file_name=image["file_name"],
                height=image["height"],
                width=image["width"],
                boxes=boxes[keep],
                labels=np.array([labels[annotation["category_id"]] for annotation in kept], dtype=np.int64),
                areas=np.array(
                    [annotation.get("area", area) for annotation, area in zip(kept, box_areas, strict=True)],
                    dtype=np.float32,
                ),
                crowd=np.array([bool(annotation.get("iscrowd", 0)) for annotation in kept], dtype=np.bool_),
            )
        )
    if dropped or clipped:
        log.warning("%s: %d boxes without area dropped, %d boxes clipped to their image.", file, dropped, clipped)
    return records


def clip_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Clip boxes (T, 4) x, y, w, h to a picture; what lies outside gets no width or height, the rest stays exact."""
    limit = np.array([width, height], dtype=np.float32)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    inside = ((low >= 0) & (high <= limit)).all(axis=1, keepdims=True)
    clipped = np.concatenate([low.clip(0, limit), high.clip(0, limit) - low.clip(0, limit)], axis=1)
    return np.where(inside, boxes, clipped)

"""Statistics of one split: counts, sizes, and objects and images per class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.dataset import AnnotationTable
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.validation import to_table

_SMALL, _MEDIUM = 32**2, 96**2  # COCO's size classes, pixels²


def statistics_of(raw: RawSplit) -> dict[str, Any]:
    """Return counts, sizes in pixels, and objects and images per class, as JSON values."""
    table = to_table(raw)
    objects = np.bincount(table.rows()[~table.crowd], minlength=len(table))
    return {
        "images": len(table),
        "annotations": len(raw.boxes),
        "objects": int(objects.sum()),
        "crowds": int(table.crowd.sum()),
        "images_without_objects": int((objects == 0).sum()),
        "objects_per_image": _summary(objects),
        "image_height": _summary(table.sizes[:, 0]),
        "image_width": _summary(table.sizes[:, 1]),
        "box_width": _summary(table.boxes[:, 2]),
        "box_height": _summary(table.boxes[:, 3]),
        "box_sizes": _size_classes(table.boxes[:, 2] * table.boxes[:, 3]),
        "image_ids": _middle([int(image_id) for image_id in raw.image_ids]),
        "classes": _classes(raw, table),
    }


def _summary(values: NDArray[Any]) -> dict[str, float]:
    """Return the smallest, median and largest value; empty without values."""
    if len(values) == 0:
        return {}
    return {"smallest": float(values.min()), "median": float(np.median(values)), "largest": float(values.max())}


def _middle(ids: list[int]) -> dict[str, int]:
    """Return the smallest, middle and largest id; floats do not hold ids of all sizes."""
    ids = sorted(ids)
    return {"smallest": ids[0], "median": ids[(len(ids) - 1) // 2], "largest": ids[-1]} if ids else {}


def _size_classes(areas: NDArray[np.float32]) -> dict[str, int]:
    small, large = int((areas < _SMALL).sum()), int((areas >= _MEDIUM).sum())
    return {"small": small, "medium": len(areas) - small - large, "large": large}


def _classes(raw: RawSplit, table: AnnotationTable) -> dict[str, dict[str, int]]:
    count = len(raw.class_names)
    objects = np.bincount(table.labels, minlength=count)
    in_image = np.unique(np.column_stack([table.labels, table.rows()]), axis=0)
    images = np.bincount(in_image[:, 0], minlength=count)
    return {
        name: {"id": raw.category_ids[label], "objects": int(objects[label]), "images": int(images[label])}
        for label, name in enumerate(raw.class_names)
    }

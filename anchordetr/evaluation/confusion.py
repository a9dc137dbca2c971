"""Which classes are taken for which: detections against objects, image by image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_convert, box_iou

from anchordetr.data.dataset import DetectionDataset

_SCORE = 0.3
_IOU = 0.5


def confusion_matrix(dataset: DetectionDataset, rows: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count detections of a score of at least 0.3 by the class that they answer and the class of their object.

    The surest detection takes the object that it overlaps most, at an IoU of at least 0.5, whatever the classes; crowds
    are left out.

    Args:
        dataset: with annotations.
        rows: (R, 7), see :func:`~anchordetr.evaluation.coco.coco_rows`.

    Returns:
        (K + 1, K + 1): the row is the object's class, the column the answered one; the last of each is nothing.
    """
    nothing = len(dataset.class_names)
    matrix = np.zeros((nothing + 1, nothing + 1), np.int64)
    class_of = {category: index for index, category in enumerate(dataset.category_ids)}
    rows = rows[rows[:, 5] >= _SCORE]
    rows = rows[np.lexsort((-rows[:, 5], rows[:, 0]))]
    image_ids = dataset.annotations.image_ids
    starts, ends = (np.searchsorted(rows[:, 0], image_ids, side=side) for side in ("left", "right"))
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        record, found = dataset.annotations[index], rows[start:end]
        labels = record.labels[~record.crowd]
        taken = _assign(found[:, 1:5], record.boxes[~record.crowd])
        answers = np.array([class_of[int(category)] for category in found[:, 6]], np.int64)
        np.add.at(matrix, (np.append(labels, nothing)[taken], answers), 1)
        missed = np.setdiff1d(np.arange(len(labels)), taken)
        np.add.at(matrix, (labels[missed], np.full(len(missed), nothing)), 1)
    return matrix


def _assign(found: NDArray[np.float64], wanted: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the object of each detection (boxes x, y, w, h, the surest first), or -1."""
    taken = np.full(len(found), -1, np.int64)
    if len(wanted) == 0:
        return taken
    overlap = box_iou(
        *(box_convert(torch.from_numpy(np.asarray(b, np.float64)), "xywh", "xyxy") for b in (found, wanted))
    )
    free = overlap.numpy().copy()
    for row in range(len(found)):
        best = int(free[row].argmax())
        if free[row, best] >= _IOU:
            taken[row] = best
            free[:, best] = -1.0
    return taken

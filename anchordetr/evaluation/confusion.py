"""The confusion matrix of a detector: classes of objects against predicted classes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torchvision.ops import box_convert, box_iou

from anchordetr.data.dataset import DetectionDataset

_IOU = 0.5


def confusion_matrix(dataset: DetectionDataset, rows: NDArray[np.float64], threshold: float) -> sparse.csr_array:
    """Return the confusion matrix of all detections with a score of at least ``threshold``.

    In descending order of score, a detection is matched with the unmatched object of the highest IoU, if that is at
    least 0.5, regardless of class. Crowds are left out.

    Args:
        dataset: with annotations.
        rows: (R, 7), see :func:`~anchordetr.evaluation.coco.coco_rows`.
        threshold: lowest score.

    Returns:
        (K + 1, K + 1) int64: rows are classes of objects, columns predicted classes; the last row counts detections
        without an object, the last column objects without a detection.
    """
    nothing = len(dataset.class_names)
    truths, predictions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    rows = rows[rows[:, 5] >= threshold]
    rows = rows[np.lexsort((-rows[:, 5], rows[:, 0]))]
    starts, ends = (np.searchsorted(rows[:, 0], np.arange(len(dataset)), side=side) for side in ("left", "right"))
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        record, found = dataset.annotations[index], rows[start:end]
        labels = record.labels[~record.crowd]
        matched = _match(found[:, 1:5], record.boxes[~record.crowd])
        predicted = found[:, 6].astype(np.int64)
        missed = np.setdiff1d(np.arange(len(labels)), matched)
        truths += [np.append(labels, nothing)[matched], labels[missed]]
        predictions += [predicted, np.full(len(missed), nothing)]
    pairs = np.concatenate(truths), np.concatenate(predictions)
    ones = np.ones(len(pairs[0]), np.int64)
    return sparse.coo_array((ones, pairs), shape=(nothing + 1, nothing + 1)).tocsr()


def _match(found: NDArray[np.float64], objects: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the object of each detection, or -1; boxes are x, y, w, h, detections in descending order of score."""
    matched = np.full(len(found), -1, np.int64)
    if len(objects) == 0:
        return matched
    corners = (box_convert(torch.from_numpy(np.asarray(b, np.float64)), "xywh", "xyxy") for b in (found, objects))
    overlap = box_iou(*corners).numpy().copy()
    for row in range(len(found)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= _IOU:
            matched[row] = best
            overlap[:, best] = -1.0
    return matched

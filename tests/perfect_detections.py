"""Result rows of a detector that makes no mistake."""

from __future__ import annotations

import numpy as np

from anchordetr.data.dataset import DetectionDataset
from anchordetr.evaluation.coco import coco_rows


def perfect_rows(dataset: DetectionDataset) -> np.ndarray:
    rows = []
    for index in range(len(dataset)):
        record = dataset.annotations[index]
        xyxy = np.concatenate([record.boxes[:, :2], record.boxes[:, :2] + record.boxes[:, 2:]], axis=1)
        rows.append(coco_rows(index, xyxy, np.ones(len(xyxy)), record.labels))
    return np.concatenate(rows)

"""COCO metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from perfect_detections import perfect_rows
from torch import Tensor

from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.data.transforms import eval_transform
from anchordetr.detections import Detections
from anchordetr.errors import InputError
from anchordetr.evaluation.coco import coco_metrics, evaluate
from anchordetr.metrics import Metrics


def test_perfect_detections_have_ap_one() -> None:
    dataset = ShapesDataset("val", 20)
    dataset.category_ids = [5, 50, 500]
    metrics = coco_metrics(dataset, perfect_rows(dataset))
    assert metrics.ap == metrics.ap50 == metrics.ar_100 == pytest.approx(1.0)
    assert metrics.per_class == pytest.approx({"circle": 1.0, "rectangle": 1.0, "triangle": 1.0})


def test_half_of_the_objects_found_has_half_the_recall() -> None:
    dataset = ShapesDataset("val", 200)
    metrics = coco_metrics(dataset, perfect_rows(dataset)[::2])
    assert metrics.ar_100 == pytest.approx(0.5, abs=0.05)


def test_no_detections_have_ap_zero() -> None:
    dataset = ShapesDataset("val", 5)
    assert coco_metrics(dataset, np.zeros((0, 7))).ap == 0.0


def test_results_for_an_unknown_image_are_refused() -> None:
    dataset = ShapesDataset("val", 2)
    rows = perfect_rows(dataset)
    rows[0, 0] = 77
    with pytest.raises(InputError, match="number 77 of 2"):
        coco_metrics(dataset, rows)


def test_whatever_detects_can_be_evaluated() -> None:
    dataset = ShapesDataset("val", 10)
    dataset.category_ids = [5, 50, 500]
    records = iter(range(10))  # images of one size come in order

    def detect(images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        found = []
        for picked, size in zip(images, sizes, strict=True):
            assert picked.shape == (3, 32, 32)
            record = dataset.annotations[next(records)]
            assert size == (record.height, record.width)
            xyxy = np.concatenate([record.boxes[:, :2], record.boxes[:, :2] + record.boxes[:, 2:]], axis=1)
            count = len(xyxy)
            anchors, patterns = np.zeros((count, 2), np.float32), np.zeros(count, np.int64)
            found.append(Detections(xyxy, np.ones(count, np.float32), record.labels, anchors, patterns))
        return found

    transform = eval_transform(32, 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    metrics = evaluate(detect, dataset, transform, batch_size=4)
    assert metrics.ap == pytest.approx(1.0)
    assert metrics.details is not None
    assert Metrics.from_dict(metrics.to_dict()) == metrics

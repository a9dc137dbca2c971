"""The thresholds with the highest F1."""

from __future__ import annotations

import numpy as np
import pytest
from perfect_detections import perfect_rows

from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.evaluation.coco import coco_metrics
from anchordetr.metrics import Metrics


def f1_at(threshold: float, rows: np.ndarray, is_right: np.ndarray, objects: int) -> float:
    chosen = rows[:, 5] >= threshold
    return float(2 * (chosen & is_right).sum() / (chosen.sum() + objects))


@pytest.fixture
def dataset() -> ShapesDataset:
    return ShapesDataset("val", 40)


@pytest.fixture
def rows(dataset: ShapesDataset) -> np.ndarray:
    """Each object found with a random score, and beside the image as many wrong detections with lower ones."""
    random = np.random.default_rng(0)
    right = perfect_rows(dataset)
    wrong = right.copy()
    wrong[:, 1:3] += 500
    right[:, 5], wrong[:, 5] = random.uniform(0.2, 1, len(right)), random.uniform(0, 0.6, len(right))
    return np.concatenate([right, wrong])


def test_no_threshold_has_a_higher_f1(dataset: ShapesDataset, rows: np.ndarray) -> None:
    metrics = coco_metrics(dataset, rows)
    is_right = np.arange(len(rows)) < len(rows) // 2
    all_f1 = {threshold: f1_at(threshold, rows, is_right, is_right.sum()) for threshold in np.arange(1, 100) / 100}
    assert metrics.f1 == pytest.approx(max(all_f1.values()))
    assert all_f1[metrics.threshold] == pytest.approx(metrics.f1)
    for label, name in enumerate(dataset.class_names):
        own = rows[:, 6] == label
        best = max(f1_at(t, rows[own], is_right[own], (own & is_right).sum()) for t in all_f1)
        found = f1_at(metrics.class_thresholds[name], rows[own], is_right[own], (own & is_right).sum())
        assert found == pytest.approx(best)
    assert metrics.details is not None
    assert metrics.details.threshold == metrics.threshold
    assert (
        metrics.details.confusion().sum()
        == (rows[:, 5] >= metrics.threshold).sum() + (rows[is_right, 5] < metrics.threshold).sum()
    )


def test_of_equal_thresholds_it_is_the_one_in_the_middle(dataset: ShapesDataset) -> None:
    rows = perfect_rows(dataset)
    wrong = rows.copy()
    wrong[:, 1:3] += 500
    rows[:, 5], wrong[:, 5] = 0.805, 0.195
    metrics = coco_metrics(dataset, np.concatenate([rows, wrong]))
    assert (metrics.f1, metrics.threshold) == (1.0, 0.5)


def test_crowds_are_neither_objects_nor_mistakes(dataset: ShapesDataset) -> None:
    rows = perfect_rows(dataset)
    dataset.annotations.crowd[::3] = True
    assert coco_metrics(dataset, rows).f1 == 1.0


def test_a_class_without_a_hit_has_no_threshold_of_its_own(dataset: ShapesDataset) -> None:
    rows = perfect_rows(dataset)
    metrics = coco_metrics(dataset, rows[rows[:, 6] != 1])
    assert metrics.class_thresholds.keys() == {"circle", "triangle"}
    nothing = coco_metrics(dataset, rows[:0])
    assert (nothing.f1, nothing.threshold, nothing.class_thresholds) == (0.0, 0.5, {})


def test_metrics_of_earlier_versions_have_no_thresholds(dataset: ShapesDataset, rows: np.ndarray) -> None:
    values = coco_metrics(dataset, rows).to_dict()
    assert Metrics.from_dict(values).to_dict() == values
    old = Metrics.from_dict({key: value for key, value in values.items() if key not in ("threshold", "f1")})
    assert old.threshold == 0.5

"""The confusion matrix."""

from __future__ import annotations

import numpy as np
import pytest
from perfect_detections import perfect_rows

from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.evaluation.coco import coco_metrics
from anchordetr.evaluation.confusion import confusion_matrix


def test_the_confusion_matrix_counts_right_wrong_missed_and_invented() -> None:
    dataset = ShapesDataset("val", 30)
    labels = dataset.annotations.labels
    rows = perfect_rows(dataset)
    counts = np.bincount(labels, minlength=3)
    details = coco_metrics(dataset, rows).details
    assert details is not None
    np.testing.assert_array_equal(details.confusion().toarray(), np.diag([*counts, 0]))
    assert details.precision.shape == (101, 3)
    assert details.precision.min() == pytest.approx(1.0)

    wrong, missed, invented, unsure = rows[1:].copy(), 1, rows[:1].copy(), rows[:1].copy()
    wrong[0, 6] = (labels[1] + 1) % 3
    invented[0, 1:5] = (-50, -50, 3, 3)
    unsure[0, 5] = 0.2
    matrix = confusion_matrix(dataset, np.concatenate([wrong, invented, unsure]), 0.3).toarray()
    assert matrix[labels[0], 3] == missed
    assert matrix[3, labels[0]] == 1
    assert matrix[labels[1], (labels[1] + 1) % 3] == 1
    assert np.trace(matrix) == len(labels) - 2


def test_an_object_is_matched_once_by_the_highest_score() -> None:
    dataset = ShapesDataset("val", 30)
    rows = perfect_rows(dataset)
    lone = np.flatnonzero(np.bincount(dataset.annotations.rows()) == 1)[0]
    label = int(dataset.annotations[lone].labels[0])
    first = rows[rows[:, 0] == lone]
    second = first.copy()
    first[0, 5], second[0, 5] = 0.6, 0.9
    second[0, 6] = (label + 1) % 3
    matrix = confusion_matrix(dataset, np.concatenate([first, second]), 0.5).toarray()
    assert matrix[label, (label + 1) % 3] == 1
    assert matrix[3, label] == 1

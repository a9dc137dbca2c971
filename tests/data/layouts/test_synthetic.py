"""The generated data set of shapes."""

from __future__ import annotations

import numpy as np
import torch

from anchordetr.data.layouts.synthetic import ShapesDataset


def test_images_depend_only_on_seed_split_and_index() -> None:
    few, many = ShapesDataset("train", 3), ShapesDataset("train", 6)
    assert torch.equal(few.image(2), many.image(2))
    assert np.array_equal(few.annotations[2].boxes, many.annotations[2].boxes)
    assert not torch.equal(few.image(2), ShapesDataset("val", 3).image(2))
    assert not torch.equal(few.image(2), ShapesDataset("train", 3, seed=1).image(2))


def test_objects_overlap_and_stay_inside_the_image() -> None:
    dataset = ShapesDataset("train", 100)
    shared = 0
    for index in range(100):
        boxes = dataset.annotations[index].boxes
        assert 1 <= len(boxes) <= 5
        assert (boxes[:, :2] >= -1e-3).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= 64 + 1e-3).all()
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        distances = np.abs(centres[:, None] - centres[None]).max(axis=-1) + 1e3 * np.eye(len(boxes))
        shared += int((distances.min() < 1) if len(boxes) > 1 else 0)
    assert shared > 20
    areas = np.sqrt(dataset.annotations.areas)
    assert areas.min() < 10
    assert areas.max() > 35

"""Resizing, augmentation and normalisation."""

from __future__ import annotations

import pytest
import torch

from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.data.loader import TrainSamples
from anchordetr.data.transforms import resized_size, train_transform


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1067)), ((400, 1200), (444, 1333)), ((1, 5000), (1, 1333)), ((5000, 1), (1333, 1))],
)
def test_resized_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, short_side=800, long_side=1333) == expected


def test_boxes_follow_the_image_through_the_augmentation() -> None:
    """A box drawn as a white rectangle must still hold the white pixels after flip, crop and resize."""
    dataset = ShapesDataset("train", 1, size=96)
    drawn = torch.zeros(3, 96, 96, dtype=torch.uint8)
    drawn[:, 30:60, 20:70] = 255
    dataset.image = lambda index: drawn  # type: ignore[method-assign]
    dataset.annotations.boxes[:] = (20, 30, 50, 30)
    samples = TrainSamples(dataset, train_transform((64, 96, 128), 160, True, ["horizontal", "vertical"]), seed=0)
    for epoch in range(30):
        image, target, _ = samples[(epoch, epoch, 0)]
        white = (image[0] > 127).nonzero()
        if not len(target.boxes):
            continue
        height, width = image.shape[1:]
        cx, cy, w, h = target.boxes[0].tolist()
        box = [(cy - h / 2) * height, (cx - w / 2) * width, (cy + h / 2) * height, (cx + w / 2) * width]
        shown = [*white.amin(0).tolist(), *(white.amax(0) + 1).tolist()]
        assert box == pytest.approx(shown, abs=1.5)

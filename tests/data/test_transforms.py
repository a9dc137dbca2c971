"""Resizing, augmentation and normalisation."""

from __future__ import annotations

import pytest
import torch

from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.data.loader import TrainCollate, TrainSamples
from anchordetr.data.transforms import Normalise, eval_transform, prepare_image, resized_size, train_transform
from anchordetr.types import Target

NORMAL = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1067)), ((400, 1200), (444, 1333)), ((1, 5000), (1, 1333)), ((5000, 1), (1333, 1))],
)
def test_resized_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, short_side=800, long_side=1333) == expected


def test_boxes_follow_the_image_through_the_augmentation() -> None:
    """A box drawn as a white rectangle must still contain the white pixels after flip, crop and resize."""
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


def test_pixels_are_normalised_per_channel() -> None:
    pixels = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    expected = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(Normalise(mean.tolist(), std.tolist()).pixels(pixels), expected)


def test_training_and_evaluation_normalise_alike() -> None:
    image = torch.randint(256, (3, 32, 48), dtype=torch.uint8)
    evaluated = prepare_image(image, eval_transform(32, 64, *NORMAL))
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    trained = TrainCollate(*NORMAL)([(image, target, 1)])
    assert evaluated.dtype == torch.float32
    assert torch.equal(evaluated, trained.images.pixels[0])


def test_padding_is_zero_after_normalisation() -> None:
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    images = [torch.full((3, *size), 200, dtype=torch.uint8) for size in ((4, 6), (5, 3))]
    batch = TrainCollate(*NORMAL)([(image, target, 1) for image in images])
    assert batch.images.sizes == ((4, 6), (5, 3))
    assert not batch.images.pixels[0, :, 4:].any()
    assert not batch.images.pixels[1, :, :, 3:].any()
    assert batch.images.pixels[1, :, :5, :3].all()

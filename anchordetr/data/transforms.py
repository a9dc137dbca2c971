"""Resizing, augmentation and normalisation with torchvision.transforms.v2, on uint8 images and their boxes.

What decides the size of an image is drawn from the generator ``sample["shapes"]`` where there is one. The images of
a batch share its draws, so that they come out in like sizes; everything else is drawn for each image alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

Sample = dict[str, Any]

_FLIPS: dict[str, type[nn.Module]] = {"horizontal": v2.RandomHorizontalFlip, "vertical": v2.RandomVerticalFlip}


def resized_size(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return the size with the short side at ``short_side``, or the long side at ``long_side`` if that is smaller.

    The ratio of the sides is kept; no side becomes less than one pixel.
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)


class ResizeShortSide(nn.Module):
    """Resize to a short side drawn from ``short_sides``, the long side at most ``long_side`` pixels."""

    def __init__(self, short_sides: Sequence[int], long_side: int) -> None:
        super().__init__()
        self.short_sides = list(short_sides)
        self.long_side = long_side

    def forward(self, sample: Sample) -> Sample:
        """Resize the image and the boxes."""
        height, width = tvf.get_size(sample["image"])
        short_side = self.short_sides[_draw(sample, 0, len(self.short_sides))]
        size = resized_size(height, width, short_side, self.long_side)
        if size == (height, width):
            return sample
        resized: Sample = v2.Resize(size, antialias=True)(sample)
        return resized


class RandomSizeCrop(nn.Module):
    """Crop a window whose height and width are drawn between ``smallest`` and ``largest`` pixels (DETR's crop)."""

    def __init__(self, smallest: int, largest: int) -> None:
        super().__init__()
        self.smallest = smallest
        self.largest = largest

    def forward(self, sample: Sample) -> Sample:
        """Crop the image and the boxes."""
        sides = tvf.get_size(sample["image"])
        window = [_draw(sample, min(self.smallest, side), min(self.largest, side) + 1) for side in sides]
        cropped: Sample = v2.RandomCrop(window)(sample)
        return cropped


class OneOf(nn.Module):
    """Applies one of several transforms, each as often."""

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.transforms = list(transforms)

    def forward(self, sample: Sample) -> Sample:
        """Transform the image and the boxes."""
        chosen: Sample = self.transforms[_draw(sample, 0, len(self.transforms))](sample)
        return chosen


def _draw(sample: Sample, low: int, high: int) -> int:
    """Draw a whole number from ``low`` to ``high - 1``."""
    return int(torch.randint(low, high, (), generator=sample.get("shapes")))


def eval_transform(short_side: int, long_side: int, mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """Resize and normalise: a sample with a uint8 ``image`` -> a float one."""
    normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), v2.ToPureTensor()]
    return v2.Compose([ResizeShortSide([short_side], long_side), *normalise])


def train_transform(short_sides: Sequence[int], long_side: int, crop: bool, flips: Sequence[str]) -> v2.Transform:
    """DETR's augmentation of uint8 samples: flips, then resize, or resize, crop and resize, each half of the time.

    The crop of an image resized to 400-600 pixels measures 384-600; for other sizes of training both shrink alike.
    """
    resize = ResizeShortSide(short_sides, long_side)
    unit = max(short_sides) / 800
    first = [round(side * unit) for side in (400, 500, 600)]
    cropped = v2.Compose(
        [
            ResizeShortSide(first, 10 * max(first)),
            RandomSizeCrop(round(384 * unit), round(600 * unit)),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(),
            resize,
        ]
    )
    steps: list[nn.Module] = [_FLIPS[direction](0.5) for direction in flips]
    return v2.Compose([*steps, OneOf([resize, cropped]) if crop else resize])


def prepare_image(image: Tensor, transform: v2.Transform) -> Tensor:
    """Apply an evaluation transform to a uint8 image (3, H, W)."""
    prepared: Tensor = transform({"image": v2.functional.to_image(image)})["image"]
    return prepared

"""Resizing, augmentation and normalisation of uint8 images and their boxes with torchvision.transforms.v2.

Random numbers that decide the size of an image are drawn from the generator ``sample["shapes"]`` if there is one. All
images of a batch share its draws, so that their sizes are similar; other random numbers are drawn per image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

Sample = dict[str, Any]

_JITTER = (0.6, 0.6, 0.6, 0.1)  # largest relative changes of brightness, contrast, saturation, and turns of the hue
_LEAST_VISIBLE = 0.25  # share of a box in a window; a smaller part is no target
_FLIPS: dict[str, type[nn.Module]] = {"horizontal": v2.RandomHorizontalFlip, "vertical": v2.RandomVerticalFlip}


def resized_size(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return height and width scaled to the given short side, or to the long side if that gives a smaller image.

    The aspect ratio is kept; each side is at least one pixel.
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)


class ResizeShortSide(nn.Module):
    """Resize to a short side of ``short_side`` pixels, or less if the long side had more than ``long_side``."""

    def __init__(self, short_side: int, long_side: int) -> None:
        super().__init__()
        self.short_side = short_side
        self.long_side = long_side

    def forward(self, sample: Sample) -> Sample:
        """Return the sample with resized image and boxes."""
        height, width = tvf.get_size(sample["image"])
        size = resized_size(height, width, self.short_side, self.long_side)
        if size == (height, width):
            return sample
        resized: Sample = v2.Resize(size, antialias=True)(sample)
        return resized


class RandomSizeCrop(nn.Module):
    """DETR's random crop: height and width are drawn between ``smallest`` and ``largest`` pixels."""

    def __init__(self, smallest: int, largest: int) -> None:
        super().__init__()
        self.smallest = smallest
        self.largest = largest

    def forward(self, sample: Sample) -> Sample:
        """Return the sample with cropped image and boxes."""
        sides = tvf.get_size(sample["image"])
        window = [_draw(sample, min(self.smallest, side), min(self.largest, side) + 1) for side in sides]
        cropped: Sample = v2.RandomCrop(window)(sample)
        return cropped


class RandomScale(nn.Module):
    """Large-scale jitter: scales by a random factor from 1 - ``strength`` to 1 / (1 - ``strength``), log-uniform.

    The size of the image stays: a smaller one is put at a random place on its mean color. A larger one is cropped at a
    random place, without being resampled, so that its size stays in proportion only.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.log_range = -math.log1p(-strength)

    def forward(self, sample: Sample) -> Sample:
        """Return the sample with scaled image and boxes."""
        height, width = tvf.get_size(sample["image"])
        factor = math.exp((2 * random_number() - 1) * self.log_range)
        if factor >= 1:
            return random_window(sample, (max(round(height / factor), 1), max(round(width / factor), 1)))
        size = max(round(height * factor), 1), max(round(width * factor), 1)
        top, left = (_draw({}, 0, large - small + 1) for large, small in zip((height, width), size, strict=True))
        margins = [left, top, width - size[1] - left, height - size[0] - top]
        color = sample["image"].float().mean(dim=(1, 2)).tolist()
        placed: Sample = v2.Compose(
            [v2.Resize(size, antialias=True), v2.Pad(margins, fill=color), v2.SanitizeBoundingBoxes()]
        )(sample)
        return placed


def random_window(sample: Sample, size: tuple[int, int]) -> Sample:
    """Return a random window (height, width) of a sample.

    Boxes are clipped to it. Those of which less than a quarter or a pixel remains are left out.
    """
    before = sample["boxes"][:, 2:].prod(dim=1)
    cropped: Sample = v2.Compose([v2.RandomCrop(size), v2.ClampBoundingBoxes()])(sample)
    boxes = cropped["boxes"].as_subclass(Tensor)
    keep = (boxes[:, 2:].prod(dim=1) >= _LEAST_VISIBLE * before) & (boxes[:, 2:] >= 1).all(dim=1)
    return {
        **cropped,
        "boxes": tv_tensors.wrap(boxes[keep], like=cropped["boxes"]),
        "labels": cropped["labels"][keep],
    }


def random_number() -> float:
    """Return a random number in [0, 1) from torch's global generator of the CPU."""
    return float(torch.rand((), device="cpu"))


class OneOf(nn.Module):
    """A random choice among several transforms with equal probability."""

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.transforms = list(transforms)

    def forward(self, sample: Sample) -> Sample:
        """Return the transformed sample."""
        chosen: Sample = self.transforms[_draw(sample, 0, len(self.transforms))](sample)
        return chosen


def _draw(sample: Sample, low: int, high: int) -> int:
    """Return a random integer in [low, high); nothing is drawn for a single choice."""
    if high - low == 1:
        return low
    return int(torch.randint(low, high, (), generator=sample.get("shapes"), device="cpu"))


class Normalise(nn.Module):
    """Normalisation of uint8 pixels to float32, the only one of the package.

    Args:
        mean, std: per channel, of pixels in [0, 1].
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = (
            torch.tensor(values, dtype=torch.float32, device="cpu").view(3, 1, 1) * 255 for values in (mean, std)
        )

    def forward(self, sample: Sample) -> Sample:
        """Return the sample with a normalised image."""
        return {**sample, "image": self.pixels(sample["image"].as_subclass(Tensor))}

    def pixels(self, pixels: Tensor) -> Tensor:
        """Return normalised pixels: uint8 (..., 3, H, W) -> float32."""
        return (pixels - self.mean) / self.std


def eval_transform(short_side: int, long_side: int, mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """Return the transform of evaluation and prediction: resize, then normalise; a uint8 ``image`` -> float32.

    It draws no random number.
    """
    return v2.Compose([ResizeShortSide(short_side, long_side), Normalise(mean, std)])


def train_transform(
    short_sides: Sequence[int],
    long_side: int,
    crop: bool,
    flips: Sequence[str],
    color_jitter: float = 0.0,
    random_scale: float = 0.0,
) -> v2.Transform:
    """Return DETR's augmentation of uint8 samples: flips, then either resize, or resize, crop and resize.

    DETR crops 384 to 600 pixels of images resized to 400 to 600 pixels for training sizes up to 800; for other training
    sizes both are scaled in proportion. Beyond DETR, images are scaled after the flips (:class:`RandomScale`), and
    their colors are changed at the end, where they are small; 0 is neither.
    """
    resize = _resize_to_one_of(short_sides, long_side)
    unit = max(short_sides) / 800
    first = [round(side * unit) for side in (400, 500, 600)]
    cropped = v2.Compose(
        [
            _resize_to_one_of(first, 10 * max(first)),
            RandomSizeCrop(round(384 * unit), round(600 * unit)),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(),
            resize,
        ]
    )
    steps: list[nn.Module] = [_FLIPS[direction](0.5) for direction in flips]
    if random_scale:
        steps.append(RandomScale(random_scale))
    steps.append(OneOf([resize, cropped]) if crop else resize)
    if color_jitter:
        steps.append(v2.ColorJitter(*(strength * color_jitter for strength in _JITTER)))
    return v2.Compose(steps)


def _resize_to_one_of(short_sides: Sequence[int], long_side: int) -> OneOf:
    return OneOf([ResizeShortSide(side, long_side) for side in short_sides])


def as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Return an image (H, W, 3) as a tensor (3, H, W), which shares its memory."""
    return torch.from_numpy(image).permute(2, 0, 1)


def prepare_image(image: Tensor, transform: v2.Transform) -> Tensor:
    """Return a uint8 image (3, H, W) after an evaluation transform."""
    prepared: Tensor = transform({"image": image.as_subclass(tv_tensors.Image)})["image"]
    return prepared

"""Training samples made of several images: mosaics and mixtures.

Random numbers are those of torch's global generator, which the data set of training samples seeds for each image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image

from anchordetr.data.transforms import Sample, random_number, random_window

_CENTER = (0.3, 0.7)  # where the four parts of a mosaic meet, as a share of its sides
_WEIGHT = (0.4, 0.6)  # of the first image of a mixture


@dataclass(frozen=True)
class Mixing:
    """Replaces some samples by mosaics of four images, then some by mixtures of two.

    Attributes:
        mosaic, mixup: the probability of each; nothing is drawn for one that is 0.
        short_side: of mosaics in pixels, where the images are not smaller than half of it.
    """

    mosaic: float = 0.0
    mixup: float = 0.0
    short_side: int = 800

    def __call__(self, sample: Sample, other: Callable[[], Sample]) -> Sample:
        """Return the sample or one made of it and others; ``other`` returns a random sample of the data set.

        Samples have a uint8 ``image`` (3, H, W), ``boxes`` x, y, w, h and ``labels``.
        """
        if self.mosaic and random_number() < self.mosaic:
            sample = mosaic(sample, [other() for _ in range(3)], self.short_side)
        if self.mixup and random_number() < self.mixup:
            sample = mixup(sample, other())
        return sample


def mosaic(sample: Sample, others: Sequence[Sample], short_side: int) -> Sample:
    """Return four samples in a grid with the aspect ratio of the first; they meet at a random point, in random order.

    Each image fills its part of the grid: it is scaled in proportion, and cropped at random.
    """
    sides = tvf.get_size(sample["image"])
    scale = min(short_side / min(sides), 2.0)
    height, width = (max(round(side * scale), 2) for side in sides)
    y, x = (min(max(round(side * _between(*_CENTER)), 1), side - 1) for side in (height, width))
    corners = [(0, 0), (0, x), (y, 0), (y, x)]
    samples = [sample, *others]
    parts = [
        _filling(samples[number], (height - y if top else y, width - x if left else x))
        for number, (top, left) in zip(torch.randperm(4, device="cpu").tolist(), corners, strict=True)
    ]
    images = [part["image"] for part in parts]
    boxes = [
        part["boxes"].as_subclass(Tensor) + torch.tensor([left, top, 0, 0])
        for part, (top, left) in zip(parts, corners, strict=True)
    ]
    rows = [torch.cat(pair, dim=2) for pair in (images[:2], images[2:])]
    return _replaced(sample, torch.cat(rows, dim=1), boxes, parts)


def mixup(sample: Sample, other: Sample) -> Sample:
    """Return the weighted mean of two images with the boxes of both; the second one fills the size of the first."""
    height, width = tvf.get_size(sample["image"])
    parts = [sample, _filling(other, (height, width))]
    first, second = (part["image"].as_subclass(Tensor).float() for part in parts)
    mixed = torch.lerp(second, first, _between(*_WEIGHT)).round().to(torch.uint8)
    return _replaced(sample, mixed, [part["boxes"].as_subclass(Tensor) for part in parts], parts)


def _filling(sample: Sample, size: tuple[int, int]) -> Sample:
    """Return a sample scaled in proportion so that it just covers a size (height, width), and cropped to it."""
    sides = tvf.get_size(sample["image"])
    scale = max(new / old for new, old in zip(size, sides, strict=True))
    covering = [max(round(old * scale), new) for new, old in zip(size, sides, strict=True)]
    return random_window(v2.Resize(covering, antialias=True)(sample), size)


def _replaced(sample: Sample, image: Tensor, boxes: Sequence[Tensor], parts: Sequence[Sample]) -> Sample:
    """Return a sample with another image and the objects of several parts."""
    size = (image.shape[-2], image.shape[-1])
    return {
        **sample,
        "image": Image(image),
        "boxes": BoundingBoxes(torch.cat(list(boxes)), format=BoundingBoxFormat.XYWH, canvas_size=size),
        "labels": torch.cat([part["labels"] for part in parts]),
    }


def _between(low: float, high: float) -> float:
    return low + random_number() * (high - low)

"""Speed of the training loader alone, and how much of its batches is padding."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch.utils.data import DataLoader

from anchordetr.data.loader import TrainBatch


@dataclass(frozen=True)
class LoaderSpeed:
    """The measured speed of a loader.

    Attributes:
        images: number of images that were counted. images_per_second: without the first batch and the start of workers.
        padded_share: share of the pixels of the batches that are padding.
    """

    images: int
    images_per_second: float
    padded_share: float


def measure_loader(loader: DataLoader[Any], batches: int) -> LoaderSpeed:
    """Load batches as training does, epoch after epoch, without using them.

    Args:
        loader: see :func:`~anchordetr.data.loader.train_loader`.
        batches: number of batches that are counted; one more is loaded before.
    """
    source = _endless(loader)
    next(source)
    count = given = valid = 0
    start = time.perf_counter()
    for _ in range(batches):
        images = next(source).images
        count += len(images)
        given += len(images) * images.pixels[0, 0].numel()
        valid += sum(height * width for height, width in images.sizes)
    return LoaderSpeed(count, count / (time.perf_counter() - start), 1 - valid / given)


def _endless(loader: DataLoader[Any]) -> Iterator[TrainBatch]:
    for epoch in count():
        loader.batch_sampler.epoch = epoch  # type: ignore[union-attr]
        yield from loader

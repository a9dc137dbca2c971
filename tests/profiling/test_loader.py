"""The measurement of a loader: what is counted; never how fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from anchordetr.data.loader import TrainBatch
from anchordetr.profiling.loader import measure_loader
from anchordetr.types import ImageBatch


@dataclass
class TwoBatches:
    """A loader of two batches an epoch: images of 10x20 and 10x10 pixels."""

    batch_sampler: Any = field(default_factory=lambda: type("Sampler", (), {"epoch": 0})())
    epochs: list[int] = field(default_factory=list)

    def __iter__(self) -> Any:
        self.epochs.append(self.batch_sampler.epoch)
        images = ImageBatch(torch.zeros(2, 3, 10, 20), ((10, 20), (10, 10)))
        return iter([TrainBatch(images, [], [0, 1])] * 2)


def test_images_and_padding_are_counted_over_epochs() -> None:
    loader = TwoBatches()
    speed = measure_loader(loader, batches=4)  # type: ignore[arg-type]
    assert speed.images == 8
    assert speed.padded_share == pytest.approx(0.25)
    assert speed.images_per_second > 0
    assert loader.epochs == [0, 1, 2]

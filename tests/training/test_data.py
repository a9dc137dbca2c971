"""The batches of a training: shared out evenly, whoever loads them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.loader import EpochBatches, TrainSamples
from anchordetr.errors import InputError


@pytest.mark.parametrize(("ranks", "parts"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_steps_hold_the_same_images_however_they_are_shared(ranks: int, parts: int) -> None:
    def steps(ranks: int, parts: int, start: int = 0) -> list[set[tuple[int, int, int]]]:
        shares = []
        for rank in range(ranks):
            batches = EpochBatches(20, 6, seed=3, share=(rank, ranks), parts=parts)
            batches.epoch, batches.start = 4, start
            shares.append(list(batches))
            assert len(shares[-1]) == len(batches) == (3 - start) * parts
        return [
            {key for share in shares for batch in share[step * parts : (step + 1) * parts] for key in batch}
            for step in range(3 - start)
        ]

    assert steps(ranks, parts) == steps(1, 1)
    assert steps(ranks, parts, start=2) == steps(1, 1)[2:]


def test_a_step_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="choose a multiple of 4 for batch_size"):
        EpochBatches(20, 6, seed=0, share=(0, 2), parts=2)


def test_a_dead_worker_is_named(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: TrainSamples, key: tuple[int, int, int]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(TrainSamples, "__getitem__", die)
    with pytest.raises(InputError, match=r"process that loads images died .*workers=0"):
        Detector(small_config.updated({"data.workers": 1}), device="cpu").train(coco_folder, tmp_path, epochs=1)

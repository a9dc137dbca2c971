"""A dry run: two training steps and one save, from which the cost of the whole run is estimated."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from anchordetr.device import peak_memory
from anchordetr.training.trainer import Trainer


def dry_run(trainer: Trainer) -> dict[str, Any]:
    """Do two steps on one batch and save once; return sizes, times and memory of the whole run, by name.

    Args:
        trainer: one that has not trained yet; its network is changed, and files in the run's folder are replaced.
    """
    steps_per_epoch = trainer.data.steps_per_epoch
    images_per_step = trainer.data.sampler.batch_size
    with closing(trainer.data):
        batches = next(trainer.data.steps())
        trainer.train_step(batches)
        start = time.perf_counter()
        trainer.train_step(batches)
        seconds = time.perf_counter() - start
        trainer.save_last()
    steps = trainer.settings.epochs * steps_per_epoch
    sizes = ["x".join(map(str, batch.images.pixels.shape[-2:])) for batch in batches]
    return {
        "images of a step": images_per_step,
        "pixels of the batches": ", ".join(sizes),
        "steps of an epoch": steps_per_epoch,
        "steps": steps,
        "seconds of a step": round(seconds, 3),
        "hours of all steps": round(steps * seconds / 3600, 2),
        "trained parameters": sum(value.numel() for value in trainer.model.parameters() if value.requires_grad),
        "peak memory, MiB": peak_memory() >> 20,
        "bytes of a save": sum(file.stat().st_size for file in trainer.run.folder.rglob("*") if file.is_file()),
    }

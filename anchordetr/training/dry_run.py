"""A dry run: two training steps and one save, from which the cost of the whole run is estimated."""

from __future__ import annotations

import time
from contextlib import closing
from itertools import islice
from typing import Any, cast

from anchordetr.device import peak_memory
from anchordetr.training.data import TrainingData
from anchordetr.training.trainer import Trainer


def dry_run(trainer: Trainer) -> dict[str, Any]:
    """Do two steps on one batch and save once; return sizes, times and memory of the whole run, by name.

    A step waits for its images as long as loading them in ``data.workers`` processes takes longer than the step.

    Args:
        trainer: one that has not trained yet; its network is changed, and files in the run's folder are replaced.
    """
    steps_per_epoch = trainer.data.steps_per_epoch
    images_per_step = trainer.data.sampler.batch_size
    workers = trainer.data.loader.num_workers
    with closing(trainer.data):
        batches = next(trainer.data.steps())
        loading = _seconds_to_load(trainer.data)
        trainer.train_step(batches)
        start = time.perf_counter()
        trainer.train_step(batches)
        seconds = time.perf_counter() - start
        trainer.save_last()
    waiting = max(0.0, loading / workers - seconds) if workers else loading
    steps = trainer.settings.epochs * steps_per_epoch
    sizes = ["x".join(map(str, batch.images.pixels.shape[-2:])) for batch in batches]
    return {
        "images of a step": images_per_step,
        "pixels of the batches": ", ".join(sizes),
        "steps of an epoch": steps_per_epoch,
        "steps": steps,
        "seconds of a step": round(seconds, 3),
        "seconds that it waits for images": round(waiting, 3),
        "hours of all steps": round(steps * (seconds + waiting) / 3600, 2),
        "trained parameters": sum(value.numel() for value in trainer.model.parameters() if value.requires_grad),
        "peak memory, MiB": peak_memory() >> 20,
        "bytes of a save": sum(file.stat().st_size for file in trainer.run.folder.rglob("*") if file.is_file()),
    }


def _seconds_to_load(data: TrainingData) -> float:
    """Return the seconds that one process takes for the images of the first step."""
    loader = data.loader
    start = time.perf_counter()
    for indices in islice(data.sampler, data.sampler.parts):
        cast(Any, loader.collate_fn)([loader.dataset[index] for index in indices])
    return time.perf_counter() - start

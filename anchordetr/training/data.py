"""The data of a training run: its two splits, and the batches of each step."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.utils.data import DataLoader

from anchordetr.config import Config
from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.layouts.holdout import Holdout
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.loader import EpochBatches, TrainBatch, batches_of
from anchordetr.data.preflight import preflight
from anchordetr.distributed import is_main_process
from anchordetr.errors import InputError, by_user, classes
from anchordetr.metrics import Metrics

log = logging.getLogger("anchordetr")

_FEW_IMAGES = 2000

Evaluate = Callable[[nn.Module, Callable[[int, int], None]], Metrics]
"""Returns the metrics of a network in eval mode; calls the function before each batch, equally often on all processes,
with the number of the batch, from 0, and how many there are."""


class TrainingData:
    """The batches that a network is trained on, and its evaluation.

    Args:
        loader: see :func:`~anchordetr.data.loader.train_loader`.
        evaluate: see :data:`Evaluate`.
    """

    def __init__(self, loader: DataLoader[Any], evaluate: Evaluate) -> None:
        self.loader = loader
        self.evaluate = evaluate

    @property
    def sampler(self) -> EpochBatches:
        """The batch sampler, which chooses the images of each batch."""
        return cast(EpochBatches, self.loader.batch_sampler)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return self.sampler.steps

    def start_epoch(self, epoch: int, step: int) -> None:
        """Set the epoch, from 0, and the step in it, at which :meth:`steps` begins."""
        self.sampler.epoch, self.sampler.start = epoch, step

    def steps(self) -> Iterator[list[TrainBatch]]:
        """Yield the batches of this process for each optimizer step, until the end of the epoch.

        Raises:
            InputError: an image cannot be read, or a worker process died.
        """
        batches = batches_of(self.loader)
        while group := list(islice(batches, self.sampler.parts)):
            yield group

    def close(self) -> None:
        """Stop the worker processes, which would take seconds if it were left to the garbage collector."""
        del self.loader


def open_split(data: str | Path, split: str, config: Config) -> DetectionDataset:
    """Open one split of a data set as a configuration says.

    Raises:
        InputError: the data cannot be used; the message says why.
    """
    return open_dataset(data, split, config.data.layout, config.data.skip_broken, holdout_of(config))


def holdout_of(config: Config) -> Holdout:
    """Return which images of a data set without ``val`` a configuration holds out."""
    return Holdout(config.data.val_fraction, config.train.seed)


def open_splits(data: str | Path, config: Config) -> tuple[DetectionDataset, DetectionDataset]:
    """Open and check the splits ``train`` and ``val`` of a data set.

    Raises:
        InputError: the data cannot be used; the message says why.
    """
    train_set, val_set = (open_split(data, split, config) for split in ("train", "val"))
    if train_set.class_names != val_set.class_names:
        raise InputError(
            f"{data}: train has {classes(train_set.class_names)}, val has {classes(val_set.class_names)}; give both "
            "splits the same classes in the same order."
        )
    if len(train_set) == 0 or len(val_set) == 0:
        raise InputError(f"{data} has no images in train or in val; training needs both.")
    if is_main_process():
        preflight(train_set, val_set, config.model.num_queries)
    return train_set, val_set


def advise_recipe(train_set: DetectionDataset, config: Config, data: str | Path, is_trained: bool) -> None:
    """Warn if the paper's recipe is to be used on a small data set, and name the better command.

    Args:
        train_set, config: of the run.
        data: the data set as the user named it.
        is_trained: whether the weights are those of a trained detector.
    """
    count, model = len(train_set), config.model
    if count >= _FEW_IMAGES or model.init != "paper" or model.encoder_loss or not is_main_process():
        return
    if is_trained:
        better = by_user("add --recipe finetune", 'load the weights with settings=recipe("finetune")')
        log.warning("The paper's recipe was made for 118,000 images; for %d, %s.", count, better)
    else:
        command = f"anchordetr train --data {shlex.quote(str(data))} --weights anchordetr_r50_dc5 --recipe finetune"
        better = by_user(
            f"{command}, or with --model anchordetr_v2_small instead of --weights",
            'Detector("anchordetr_v2_small", recipe="finetune"), or '
            'Detector.from_pretrained("anchordetr_r50_dc5", settings=recipe("finetune"))',
        )
        log.warning(
            "The paper's recipe was made for 118,000 images, and with %d its AP usually stays near 0. Better: %s.",
            count,
            better,
        )

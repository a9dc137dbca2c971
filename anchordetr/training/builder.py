"""Builds a trainer from the configuration of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from anchordetr.config import Config, flatten
from anchordetr.console import say
from anchordetr.criterion import build_criterion
from anchordetr.data.box_centers import box_centres, representatives
from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.loader import EpochBatches, train_loader, train_samples
from anchordetr.device import repeatable
from anchordetr.distributed import ProcessGroup, process_group
from anchordetr.errors import UsageError
from anchordetr.layers.recompute import recomputing
from anchordetr.metrics import Metrics
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.training.callbacks import Callback, Callbacks
from anchordetr.training.data import Evaluate, TrainingData
from anchordetr.training.display import ProgressDisplay
from anchordetr.training.mlflow import MLflow
from anchordetr.training.optim import build_optimization
from anchordetr.training.run import TrainingRun
from anchordetr.training.tensorboard import TensorBoard
from anchordetr.training.trainer import Trainer
from anchordetr.training.wandb import WandB


@contextmanager
def open_trainer(
    model: AnchorDETR,
    train_set: DetectionDataset,
    evaluate: Callable[[ProcessGroup, nn.Module, Callable[[int, int], None]], Metrics],
    run: TrainingRun,
    state: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Iterator[Trainer]:
    """Set up the process group and torch's global modes for a training run, and yield its trainer.

    Args:
        evaluate: as in :func:`build_trainer`, with the process group first; all processes of the group call it.
        model, train_set, run, state, callbacks: as in :func:`build_trainer`; the process group is added to the run.
    """
    settings = run.config.train
    with process_group(next(model.parameters()).device) as group, repeatable(settings.deterministic):
        run = replace(run, process_group=group)
        trainer = build_trainer(model, train_set, partial(evaluate, group), run, state, callbacks)
        with recomputing(model.layers if settings.gradient_checkpointing else []):
            yield trainer


def build_trainer(
    model: AnchorDETR,
    train_set: DetectionDataset,
    evaluate: Evaluate,
    run: TrainingRun,
    state: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """Return a trainer with all parts that the run's configuration describes.

    Args:
        model: the network, on its device.
        train_set: the training split.
        evaluate: see :data:`~anchordetr.training.data.Evaluate`.
        run: folder, configuration and process group.
        state: a saved state to resume from; None starts a new run.
        callbacks: of the user; called after the progress display and the loggers.

    Raises:
        UsageError: ``train.freeze`` or ``train.anchors_from_data`` does not fit the network, or a logger is missing.
        InputError: the images of a step cannot be divided evenly among the processes.
    """
    config, settings = run.config, run.config.train
    if settings.anchors_from_data and state is None:
        init_anchors(model, train_set, config)
    freeze(model, settings.freeze)
    data = TrainingData(_build_loader(model, train_set, run), evaluate)
    trainer = Trainer(
        model,
        build_criterion(config.model.num_classes, config.loss),
        build_optimization(model, settings, data.steps_per_epoch),
        data,
        run,
        settings,
        _build_callbacks(run, callbacks),
    )
    if state is not None:
        trainer.load_state_dict(state)
    return trainer


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Exclude parts of a network from training.

    Raises:
        UsageError: a part does not exist.
    """
    for part in parts:
        chosen = [value for name, value in model.named_parameters() if f"{name}.".startswith(f"{part.rstrip('.')}.")]
        if not chosen:
            known = ", ".join(name for name, _ in model.named_children())
            raise UsageError(f"train.freeze names '{part}', which the model does not have. Its parts: {known}.")
        for value in chosen:
            value.requires_grad_(False)


@torch.no_grad()
def init_anchors(model: AnchorDETR, train_set: DetectionDataset, config: Config) -> None:
    """Initialise learned anchors from the object centres of the training data, and print a note.

    Raises:
        UsageError: the network's anchors are not learned points.
    """
    points = getattr(getattr(model.queries, "anchors", None), "points", None)
    if not isinstance(points, nn.Parameter):
        raise UsageError("train.anchors_from_data needs learned anchors, which this model lacks; set it to false.")
    centres = box_centres(train_set.annotations, config.data.flips)
    means = representatives(centres, len(points), config.train.seed)
    points.copy_(torch.from_numpy(means))
    boxes = int((~train_set.annotations.crowd).sum())
    say(f"The {len(points)} anchors are initialised from the centres of {boxes} boxes of the training data.")


def _build_loader(model: AnchorDETR, train_set: DetectionDataset, run: TrainingRun) -> DataLoader[Any]:
    data, settings = run.config.data, run.config.train
    batches = EpochBatches(
        len(train_set),
        settings.batch_size,
        settings.seed,
        share=(run.process_group.rank, run.process_group.size),
        parts=settings.grad_accum_steps,
        ratios=train_set.annotations.ratios,
    )
    return train_loader(
        train_samples(train_set, data, settings.seed),
        (model.backbone.mean, model.backbone.std),
        batches,
        workers=data.workers,
        pin_memory=next(model.parameters()).is_cuda,
    )


def _build_callbacks(run: TrainingRun, callbacks: Sequence[Callback]) -> Callbacks:
    """Return the callbacks of this process; only the main process has any."""
    if not run.process_group.is_main:
        return Callbacks([])
    settings, flat = run.config.train, flatten(run.config.model_dump(mode="json"))
    displays: list[Callback] = [ProgressDisplay()]
    displays += [TensorBoard()] if settings.tensorboard else []
    displays += [WandB(flat)] if settings.wandb else []
    displays += [MLflow(flat)] if settings.mlflow else []
    return Callbacks(callbacks, displays)

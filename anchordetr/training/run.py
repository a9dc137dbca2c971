"""One training run and its folder: what it writes, when it may start, how it goes on."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anchordetr.config import Config, TrainConfig, differences, flatten
from anchordetr.console import say
from anchordetr.criterion import build_criterion
from anchordetr.data.box_centers import box_centres, representatives
from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.loader import EpochBatches, TrainBatch, train_loader
from anchordetr.data.transforms import train_transform
from anchordetr.device import peak_memory
from anchordetr.distributed import World
from anchordetr.errors import InputError, UsageError
from anchordetr.evaluation.coco import Metrics
from anchordetr.files import write_text
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.training.ema import build_ema
from anchordetr.training.optim import build_optimizer, build_scheduler
from anchordetr.training.progress import RichReporter, SilentReporter
from anchordetr.training.replay import keep_batches
from anchordetr.training.state import load_state, save_state
from anchordetr.training.tensorboard import TensorBoardReporter
from anchordetr.training.trainer import Reporter, Trainer

BAD_STEP_FILE = "bad_step.pt"
_FREE = {  # what may change on resuming without being told so
    "train.epochs",
    "train.eval_every",
    "train.save_every",
    "train.patience",
    "train.device",
    "train.tensorboard",
    "data.workers",
    "model.pretrained_backbone",
    "model.backbone_weights",
}


def check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Make a run's folder, and refuse one that cannot take the run.

    Raises:
        InputError: it holds a run already, or cannot be written.
    """
    if (folder / "last").exists() and not (resume or overwrite):
        raise InputError(f"{folder} already holds a run; resume it (--resume), or choose another --output-dir.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another --output-dir.") from error


def resume_state(folder: Path, config: Config, accept_changes: bool) -> dict[str, Any]:
    """Load a run's state, and show what differs between its configuration and the present one.

    Settings that did not exist when the run was saved count as their defaults.

    Raises:
        InputError: there is nothing to resume, it is damaged, or the configuration differs and that was not accepted.
    """
    state = load_state(folder / "last")
    before = flatten(Config().model_dump(mode="json")) | flatten(state["config"])
    changed = differences(before, config.model_dump(mode="json"))
    if changed:
        lines = [f"{key}: {old} -> {new}" for key, (old, new) in sorted(changed.items())]
        say(f"The configuration differs from that of {folder}:\n  " + "\n  ".join(lines))
    refused = sorted(changed.keys() - _FREE)
    if refused and not accept_changes:
        raise InputError(
            f"{folder} was trained with another configuration ({', '.join(refused)}); resume it with the old one, or "
            "add --accept-changes."
        )
    return state


def learning_rates(settings: TrainConfig) -> tuple[float, float]:
    """Return the learning rates of the network and of the backbone, scaled if that is wanted; say what was done."""
    factor = settings.batch_size / settings.lr_batch_size
    rates = settings.lr, settings.backbone_lr
    if factor == 1.0:
        return rates
    scaled = settings.lr * factor, settings.backbone_lr * factor
    shown = f"{scaled[0]:.3g} and {scaled[1]:.3g} for the backbone"
    if settings.scale_lr:
        say(f"Learning rates are scaled from {settings.lr_batch_size} to {settings.batch_size} images: {shown}.")
        return scaled
    say(
        f"The learning rates are those of {settings.lr_batch_size} images a step; {settings.batch_size} are used. "
        f"--set train.scale_lr=true would scale them to {shown}."
    )
    return rates


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Keep parts of a network as they are.

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
def start_anchors(model: AnchorDETR, train_set: DetectionDataset, config: Config) -> None:
    """Let learned anchors start where the objects of the training data are; say so.

    Raises:
        UsageError: the network's anchors are not learned points.
    """
    points = getattr(getattr(model.queries, "anchors", None), "points", None)
    if not isinstance(points, nn.Parameter):
        raise UsageError("train.anchors_from_data moves learned anchors, which this model lacks; leave it false.")
    centres = box_centres(train_set.annotations, config.data.flips)
    means = representatives(centres, len(points), config.train.seed)
    points.copy_(torch.from_numpy(means))
    boxes = int((~train_set.annotations.crowd).sum())
    say(f"The {len(points)} anchors start from the data: the centres of {boxes} boxes.")


def build_trainer(
    *,
    model: AnchorDETR,
    config: Config,
    train_set: DetectionDataset,
    evaluate: Callable[[nn.Module], Metrics],
    save_model: Callable[[Path, nn.Module], None],
    folder: Path,
    world: World,
    state: Mapping[str, Any] | None,
) -> Trainer:
    """Put a trainer together from a configuration.

    Args:
        model: the network, on its device.
        config: of the whole run.
        train_set: to learn from.
        evaluate: returns the metrics of a network.
        save_model: writes a network into a folder.
        folder: of the run.
        world: the processes that train together; the main one writes.
        state: to go on from; None starts anew.
    """
    settings, data = config.train, config.data
    torch.manual_seed(settings.seed + world.rank)
    if settings.anchors_from_data and state is None:
        start_anchors(model, train_set, config)
    freeze(model, settings.freeze)
    batches = EpochBatches(
        len(train_set),
        settings.batch_size,
        settings.seed,
        share=(world.rank, world.size),
        parts=settings.accumulate,
        ratios=train_set.annotations.ratios,
    )
    loader = train_loader(
        train_set,
        train_transform(data.train_short_sides, data.long_side, data.crop, data.flips),
        (model.backbone.mean, model.backbone.std),
        batches,
        workers=data.workers,
        pin_memory=next(model.parameters()).is_cuda,
    )
    optimizer = build_optimizer(model, *learning_rates(settings), settings.weight_decay)
    total_steps = settings.epochs * batches.steps
    done = 0 if state is None else state["epoch"] * batches.steps + state["step"]
    reporter: Reporter = RichReporter(settings.epochs, batches.steps, done) if world.is_main else SilentReporter()
    if settings.tensorboard and world.is_main:
        reporter = TensorBoardReporter(reporter, folder / "tensorboard", batches.steps)
    trainer = Trainer(
        model=model,
        criterion=build_criterion(config.model.num_classes, config.loss),
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, settings.schedule, settings.warmup, settings.drop_at, total_steps),
        loader=loader,
        evaluate=evaluate,
        save=lambda name: _save(folder, name, trainer, config, save_model),
        keep_batches=lambda group: _keep(folder, group, trainer, config, world),
        reporter=reporter,
        world=world,
        average=build_ema(model, settings.ema),
        epochs=settings.epochs,
        eval_every=settings.eval_every,
        save_every=settings.save_every,
        patience=settings.patience,
        clip_norm=settings.clip_norm,
        precision=settings.precision,
    )
    if state is not None:
        trainer.load_state_dict(dict(state))
    return trainer


def try_out(trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Do two steps on one batch and save once; return what a whole run would take.

    Args:
        trainer: that has done nothing yet; its network is changed.
        folder: of the run.
    """
    with trainer.ending_workers():
        group = next(trainer.groups())
    trainer.network.train()
    trainer.train_step(group)
    start = time.perf_counter()
    trainer.train_step(group)
    seconds = time.perf_counter() - start
    trainer.save("last")
    steps = trainer.epochs * trainer.batches.steps
    sizes = ["x".join(map(str, batch.images.pixels.shape[-2:])) for batch in group]
    return {
        "images of a step": trainer.batches.batch_size,
        "pixels of the tried batches": ", ".join(sizes),
        "steps of an epoch": trainer.batches.steps,
        "steps": steps,
        "seconds of a step": round(seconds, 3),
        "hours of all steps": round(steps * seconds / 3600, 2),
        "trained parameters": sum(value.numel() for value in trainer.model.parameters() if value.requires_grad),
        "peak memory, MiB": peak_memory() >> 20,
        "bytes of a save": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    }


def _save(
    folder: Path, name: str, trainer: Trainer, config: Config, save_model: Callable[[Path, nn.Module], None]
) -> None:
    """Write ``best``, or ``last`` with the training state and the logs; the state first: it is what resuming needs."""
    state = {"config": config.model_dump(mode="json"), **trainer.state_dict()} if name == "last" else None
    if trainer.world.is_main:
        if state is not None:
            _write_state(folder, state)
        save_model(folder / name, trainer.trained)
    trainer.world.gather(None)  # nobody reads before everything is written


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    save_state(folder / "last", state)
    history = state["history"]
    write_text(folder / "log.jsonl", "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in history))
    write_text(folder / "log.csv", _csv(history))


def _keep(folder: Path, group: Sequence[TrainBatch], trainer: Trainer, config: Config, world: World) -> str:
    file = folder / (BAD_STEP_FILE if world.is_main else f"rank{world.rank}_{BAD_STEP_FILE}")
    keep_batches(file, group, trainer.model, config)
    return f"The step is kept: anchordetr replay {file} shows where it goes wrong."


def _csv(history: Sequence[dict[str, Any]]) -> str:
    """Return the numbers of the log as a table."""
    columns = list(
        dict.fromkeys(key for entry in history for key, value in entry.items() if not isinstance(value, dict))
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()

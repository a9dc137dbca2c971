"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from anchordetr.data.loader import EpochBatches, TrainBatch, batches_of
from anchordetr.device import autocast
from anchordetr.distributed import World
from anchordetr.errors import InputError, Stopped, reason
from anchordetr.evaluation.coco import Details, Metrics
from anchordetr.training.interrupts import StopSignals
from anchordetr.training.random_state import get_random_state, set_random_state
from anchordetr.types import Predictions

_OUT_OF_MEMORY = (
    "The memory of the device is too small for a step ({}). Try --precision bf16, --gradient-checkpointing, "
    "--set train.accumulate=2, or smaller images (data.train_short_sides, data.long_side); anchordetr profile-memory "
    "--fits tells what fits. Everything up to the last save is kept."
)
_TERMS = ("class", "box", "giou", "total")


class Reporter(Protocol):
    """Who is told how training goes, between entering and leaving its context."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def on_step(self, epoch: int, step: int, losses: dict[str, float], lr: float) -> None:
        """Called after each optimizer step with the losses of the last layer and ``total``."""

    def on_epoch(self, entry: dict[str, Any]) -> None:
        """Called after each epoch with its log entry: epoch, mean losses, learning rate, metrics."""


@dataclass
class Progress:
    """How far a run has come; saved with every checkpoint.

    Attributes:
        epoch: epochs that are done. step: steps of the next one that are done.
        sums: of the losses of those steps. lr: learning rate of the last one.
        best_ap: so far. waiting: evaluations since then.
        history: one entry for each epoch.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    lr: float = 0.0
    best_ap: float = -math.inf
    waiting: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def add(self, losses: dict[str, float], lr: float) -> None:
        """Count one more step."""
        self.step += 1
        self.lr = lr
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def finish_epoch(self) -> dict[str, float]:
        """Count one more epoch; return its number, its mean losses and its last learning rate."""
        means = {f"loss_{name}": value / self.step for name, value in self.sums.items()}
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        return {"epoch": self.epoch, **means, "lr": self.lr}

    def best_metrics(self) -> Metrics:
        """Return the metrics of the best evaluation, the first one of several."""
        evaluated = [entry for entry in self.history if "ap" in entry]
        best = max(evaluated, key=lambda entry: entry["ap"])
        return Metrics.from_dict(best)


class NonFiniteError(RuntimeError):
    """A loss or a gradient is not a finite number; no weight has changed."""


class Trainer:
    """Trains a network; every part comes ready-made.

    Args:
        model: the network, on its device.
        criterion: from predictions, targets and the number of objects to losses.
        optimizer, scheduler: the scheduler is stepped after every optimizer step.
        loader: see :func:`~anchordetr.data.loader.train_loader`; its ``batch_sampler`` shares out the steps.
        evaluate: returns the metrics of the network that it is given.
        save: called with ``best`` or ``last``.
        keep_batches: called with the batches of a step that was not finite; returns a note about them.
        reporter: is told about steps and epochs.
        world: the processes that train together.
        average: moving average of the network, which is then what is evaluated; None evaluates the network itself.
        epochs: to train in all. eval_every: evaluate after every so many epochs, and after the last.
        save_every: save after every so many steps too; 0 saves after epochs alone.
        patience: stop after so many evaluations in a row without a better AP; 0 never does.
        clip_norm: the gradient's norm is clipped to this.
        precision: ``fp32``, ``bf16`` or ``fp16``; losses are always float32.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        criterion: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: LambdaLR,
        loader: DataLoader[Any],
        evaluate: Callable[[nn.Module], Metrics],
        save: Callable[[str], None],
        keep_batches: Callable[[Sequence[TrainBatch]], str],
        reporter: Reporter,
        world: World,
        average: AveragedModel | None,
        epochs: int,
        eval_every: int,
        save_every: int,
        patience: int,
        clip_norm: float,
        precision: str,
    ) -> None:
        self.model = model
        self.network = world.wrap(model)
        self.criterion = criterion
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.loader = loader
        self.batches = cast(EpochBatches, loader.batch_sampler)
        self.evaluate = evaluate
        self.save = save
        self.keep_batches = keep_batches
        self.reporter = reporter
        self.world = world
        self.average = average
        self.epochs = epochs
        self.eval_every = eval_every
        self.save_every = save_every
        self.patience = patience
        self.clip_norm = clip_norm
        self.precision = precision
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.progress = Progress()
        self.signals = StopSignals()
        self.details: Details | None = None  # of the best evaluation since the start of this process

    @property
    def trained(self) -> nn.Module:
        """What is evaluated and saved as the model: the moving average, or the network itself."""
        return self.model if self.average is None else self.average.module

    def fit(self) -> None:
        """Train the epochs that are left; after each one log and save, after every ``eval_every`` evaluate.

        A trainer fits once.

        Raises:
            Stopped: SIGINT or SIGTERM came; the state after the last whole step is saved.
            NonFiniteError: see :meth:`train_step`.
            InputError: the device's memory is too small; the message says what to try.
        """
        with self.reporter, self.signals, self.ending_workers():
            while self.progress.epoch < self.epochs and not self._has_waited_enough():
                try:
                    self._train_epoch()
                except torch.OutOfMemoryError as error:
                    raise InputError(_OUT_OF_MEMORY.format(reason(error))) from error
                self._finish_epoch()

    @contextmanager
    def ending_workers(self) -> Iterator[None]:
        """End the processes that load images when training ends; left to the garbage collector they take seconds."""
        try:
            yield
        finally:
            del self.loader

    def _has_waited_enough(self) -> bool:
        return 0 < self.patience <= self.progress.waiting

    def _train_epoch(self) -> None:
        """Train the steps of an epoch that are left."""
        self.network.train()
        self.batches.epoch, self.batches.start = self.progress.epoch, self.progress.step
        self._stop_if_told()
        for group in self.groups():
            lr = float(self.optimizer.param_groups[0]["lr"])
            losses = self.train_step(group)
            self.progress.add(losses, lr)
            self.reporter.on_step(self.progress.epoch, self.progress.step - 1, losses, lr)
            if self.save_every and self.progress.step % self.save_every == 0:
                self.save("last")
            self._stop_if_told()

    def groups(self) -> Iterator[list[TrainBatch]]:
        """The batches of one optimizer step after the other."""
        batches = batches_of(self.loader)
        try:
            while group := list(islice(batches, self.batches.parts)):
                yield group
        except InputError:
            if self.world.size == 1:
                self._stop_if_told()  # a SIGTERM to all processes of a job ends the workers first
            raise

    def _finish_epoch(self) -> None:
        entry: dict[str, Any] = self.progress.finish_epoch()
        if self.progress.epoch % self.eval_every == 0 or self.progress.epoch == self.epochs:
            metrics = self.evaluate(self.trained)
            entry |= metrics.to_dict()
            self.progress.waiting += 1
            if metrics.ap > self.progress.best_ap:
                self.progress.best_ap, self.progress.waiting = metrics.ap, 0
                self.details = metrics.details
                self.save("best")
        self.progress.history.append(entry)
        self.save("last")
        self.reporter.on_epoch(entry)

    def _stop_if_told(self) -> None:
        """Save and stop on all processes where one of them was told to."""
        received = self.world.maximum(self.signals.received, self.device)
        if received:
            self.save("last")
            where = f"epoch {self.progress.epoch + 1}, step {self.progress.step}"
            raise Stopped(f"Stopped after {where} and saved; the same command with --resume goes on.", received)

    def train_step(self, group: Sequence[TrainBatch]) -> dict[str, float]:
        """Do one optimizer step on all batches of a group, and return ``total`` and the losses of the last layer.

        Losses are divided by the number of objects in the whole step, on all processes.

        Raises:
            NonFiniteError: a loss or a gradient is not finite; the message names losses, parameters and images, the
                batches are kept, the weights are left as they were.
        """
        objects = sum(len(target.labels) for batch in group for target in batch.targets)
        counted = self.world.sum(torch.tensor(float(objects), device=self.device)).clamp(min=1.0)
        self.optimizer.zero_grad(set_to_none=True)
        values = torch.zeros(len(_TERMS), device=self.device)
        for index, batch in enumerate(group):
            is_last = index == len(group) - 1
            with nullcontext() if is_last else self.world.without_sync(self.network):
                values += self._backward(batch, counted / self.world.size)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        losses = dict(zip(_TERMS, (self.world.sum(values) / self.world.size).tolist(), strict=True))
        is_skipped = self.scaler.is_enabled() and math.isfinite(
            losses["total"]
        )  # by the scaler, which then scales less
        if not (math.isfinite(losses["total"]) and (is_skipped or bool(norm.isfinite()))):
            self._refuse(group, losses)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return losses

    def _backward(self, batch: TrainBatch, num_boxes: Tensor) -> Tensor:
        """Add the gradient of one batch; return its losses in the order of ``_TERMS``."""
        images = batch.images.to(self.device, non_blocking=True)
        targets = [target.to(self.device, non_blocking=True) for target in batch.targets]
        with autocast(self.device, self.precision):
            predictions: Predictions = self.network(images, targets)
        losses = self.criterion(predictions, targets, num_boxes)
        self.scaler.scale(losses.total).backward()
        return torch.stack([*(losses.terms[name] for name in _TERMS[:-1]), losses.total.detach()])

    def _refuse(self, group: Sequence[TrainBatch], losses: dict[str, float]) -> None:
        bad = [
            name
            for name, value in self.model.named_parameters()
            if value.grad is not None and not value.grad.isfinite().all()
        ]
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        note = self.keep_batches(group)
        self.optimizer.zero_grad(set_to_none=True)
        raise NonFiniteError(
            f"The loss is {losses}; gradients that are not finite: {', '.join(bad[:3]) or 'none'}{more}; on images "
            f"{[image_id for batch in group for image_id in batch.image_ids]}. No weight was changed. {note} "
            "Lower train.lr, or use --precision fp32."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that :meth:`load_state_dict` needs to go on from here; call it on all processes."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": self.world.gather(get_random_state()),
            **vars(self.progress),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; with another number of processes, each takes the main one's random state."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        rates = zip(self.optimizer.param_groups, self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True)
        for group, base, factor in rates:  # the schedule of this run, which may be longer than the saved one
            group["lr"] = base * factor(self.scheduler.last_epoch)
        self.scaler.load_state_dict(state["scaler"])
        states = state["random"]
        set_random_state(states[self.world.rank if len(states) == self.world.size else 0])
        self.progress = Progress(**{name: state[name] for name in Progress.__dataclass_fields__})

"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from anchordetr.data.loader import TrainBatch
from anchordetr.engine.device import autocast
from anchordetr.engine.evaluator import Metrics
from anchordetr.types import Predictions


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
    """How far a run has come; saved with every checkpoint."""

    epoch: int = 0
    best_ap: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """Trains a network; every part comes ready-made.

    Args:
        model: the network, on its device.
        criterion: from predictions and targets to losses.
        optimizer, scheduler: the scheduler is stepped after every optimizer step.
        loader: see :func:`~anchordetr.data.loader.train_loader`.
        evaluate: returns the metrics of the network as it is.
        save: called with ``best`` or ``last`` after an epoch.
        reporter: is told about steps and epochs.
        epochs: to train in all. eval_every: evaluate after every so many epochs, and after the last.
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
        evaluate: Callable[[], Metrics],
        save: Callable[[str], None],
        reporter: Reporter,
        epochs: int,
        eval_every: int,
        clip_norm: float,
        precision: str,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.loader = loader
        self.evaluate = evaluate
        self.save = save
        self.reporter = reporter
        self.epochs = epochs
        self.eval_every = eval_every
        self.clip_norm = clip_norm
        self.precision = precision
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.progress = Progress()

    def fit(self) -> None:
        """Train the epochs that are left; after each one log and save, after every ``eval_every`` evaluate."""
        with self.reporter:
            self._fit()

    def _fit(self) -> None:
        while self.progress.epoch < self.epochs:
            averages = self._train_epoch()
            self.progress.epoch += 1
            entry: dict[str, Any] = {"epoch": self.progress.epoch, **averages}
            if self.progress.epoch % self.eval_every == 0 or self.progress.epoch == self.epochs:
                metrics = self.evaluate()
                entry |= metrics.to_dict()
                if metrics.ap > self.progress.best_ap:
                    self.progress.best_ap = metrics.ap
                    self.save("best")
            self.progress.history.append(entry)
            self.save("last")
            self.reporter.on_epoch(entry)

    def _train_epoch(self) -> dict[str, float]:
        """Train one epoch; return its mean losses and the learning rate of its last step."""
        self.model.train()
        self.loader.batch_sampler.epoch = self.progress.epoch  # type: ignore[union-attr]
        sums: dict[str, float] = {}
        lr = 0.0
        for step, batch in enumerate(self.loader):
            lr = self.optimizer.param_groups[0]["lr"]
            losses = self.train_step(batch)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            self.reporter.on_step(self.progress.epoch, step, losses, lr)
        return {f"loss_{name}": value / len(self.loader) for name, value in sums.items()} | {"lr": lr}

    def train_step(self, batch: TrainBatch) -> dict[str, float]:
        """Do one optimizer step and return ``total`` and the losses of the last layer.

        Raises:
            RuntimeError: the loss is not finite; the weights are left as they were.
        """
        images = batch.images.to(self.device, non_blocking=True)
        targets = [target.to(self.device, non_blocking=True) for target in batch.targets]
        with autocast(self.device, self.precision):
            predictions: Predictions = self.model(images)
        losses = self.criterion(predictions, targets)
        values = {name: losses.terms[name].item() for name in ("class", "box", "giou")}
        values["total"] = losses.total.item()
        if not math.isfinite(values["total"]):
            raise RuntimeError(
                f"The loss is {values} on images {batch.image_ids}; nothing was changed. "
                "Lower train.lr, or use --precision fp32."
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return everything that :meth:`load_state_dict` needs to go on from here."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "epoch": self.progress.epoch,
            "best_ap": self.progress.best_ap,
            "history": self.progress.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        rates = zip(self.optimizer.param_groups, self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True)
        for group, base, factor in rates:  # the schedule of this run, which may be longer than the saved one
            group["lr"] = base * factor(self.scheduler.last_epoch)
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        self.progress = Progress(state["epoch"], state["best_ap"], state["history"])

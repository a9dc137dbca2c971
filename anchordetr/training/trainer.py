"""The training loop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from anchordetr.config import TrainConfig
from anchordetr.console import say
from anchordetr.data.loader import TrainBatch
from anchordetr.device import autocast
from anchordetr.errors import InputError, Stopped, by_user, reason
from anchordetr.machine import device_name
from anchordetr.metrics import Details, Metrics
from anchordetr.seeding import seed_of, seeded
from anchordetr.training.callbacks import Callbacks, EvaluationStep, StepEnd, TrainingStart
from anchordetr.training.data import TrainingData
from anchordetr.training.interrupts import StopSignals
from anchordetr.training.optim import Optimization
from anchordetr.training.progress import LOSSES, Outcome, Progress
from anchordetr.training.run import TrainingRun
from anchordetr.types import Predictions

_CALLBACK_FAILED = 1 << 16  # above all signal numbers
_TRAINING = 2  # separates the seeds of steps from those of their images
_OUT_OF_MEMORY = (
    "The device has too little memory for a training step ({}). Try {}, or smaller images ({}); anchordetr "
    "profile-memory --fits shows what fits. Everything up to the last save is kept."
)
_LESS_MEMORY = (
    "--precision bf16, --gradient-checkpointing, --set train.grad_accum_steps=2",
    "precision='bf16', gradient_checkpointing=True, grad_accum_steps=2",
)


class Trainer:
    """Trains a network; its parts are built by :func:`~anchordetr.training.builder.build_trainer`.

    Args:
        model: the network, on its device.
        criterion: returns the losses of predictions, targets and the number of objects.
        optimization: optimizer, schedule, scaler and EMA.
        data: batches to train on, and the evaluation.
        run: the output folder, and the processes that train together.
        settings: epochs, precision, and when to evaluate, save and stop.
        callbacks: called on the main process; empty on the others.

    Attributes:
        progress: how far the run has come.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module,
        optimization: Optimization,
        data: TrainingData,
        run: TrainingRun,
        settings: TrainConfig,
        callbacks: Callbacks,
    ) -> None:
        self.model = model
        self.network = run.process_group.wrap(model)
        self.criterion = criterion
        self.optimization = optimization
        self.data = data
        self.run = run
        self.process_group = run.process_group
        self.settings = settings
        self.callbacks = callbacks
        self.device = next(model.parameters()).device
        self.progress = Progress()
        self._started = time.monotonic()  # minus the seconds of the processes before this one
        self._signals = StopSignals()
        self._best_details: Details | None = None  # of the best evaluation since the start of this process

    @property
    def evaluated_model(self) -> nn.Module:
        """The network that is evaluated and saved: the EMA if there is one, or the network itself."""
        ema = self.optimization.ema
        return self.model if ema is None else ema.module

    def fit(self) -> Metrics:
        """Train the remaining epochs; log and save after each one, evaluate after every ``eval_every``.

        Call it once per trainer.

        Returns:
            The metrics of the best model.

        Raises:
            Stopped: SIGINT or SIGTERM was received; the state after the last whole step is saved, and an evaluation
                starts over.
            NonFiniteError: see :meth:`train_step`.
            InputError: the device has too little memory; the message says what to try.
            WriteError: the disk has too little space, before the first step as far as that can be told.
            Exception: whatever a callback raised; the state after the last whole step is saved.
        """
        self.run.require_space(self.model, self.optimization.ema)
        with self._signals, closing(self.data), self.callbacks.during(self._start()):
            is_over = self.progress.epoch >= self.settings.epochs  # resumed, perhaps with fewer epochs than before
            self.progress.evaluation_pending |= is_over and not self.progress.is_evaluated
            if self.progress.evaluation_pending:
                self._complete_epoch()
            while self.progress.epoch < self.settings.epochs and not self._has_lost_patience():
                try:
                    self._train_epoch()
                except torch.OutOfMemoryError as error:
                    raise InputError(
                        _OUT_OF_MEMORY.format(
                            reason(error), by_user(*_LESS_MEMORY), by_user("--resolution", "resolution")
                        )
                    ) from error
                self._finish_epoch()
        return replace(Metrics.from_dict(self.progress.best_entry()), details=self._best_details)

    @property
    def outcome(self) -> Outcome:
        """How the run ended, once :meth:`fit` has returned."""
        reason = (
            "the only epoch is trained" if self.progress.epoch == 1 else f"all {self.progress.epoch} epochs are trained"
        )
        if self.progress.epoch < self.settings.epochs:
            reason = f"no better AP in {self.progress.evaluations_without_improvement} evaluations (early stopping)"
        threads = f", threads: {torch.get_num_threads()}" if self.device.type == "cpu" else ""
        processes = f", processes: {self.process_group.size}" if self.process_group.size > 1 else ""
        device = f"{device_name(self.device)}{threads}{processes}"
        return Outcome(reason, self.progress.best_entry()["epoch"], self.progress.seconds, device)

    def _start(self) -> TrainingStart:
        steps = self.data.steps_per_epoch
        return TrainingStart(self.run.folder, self.model, self.settings.epochs, steps, self._steps_done)

    @property
    def _steps_done(self) -> int:
        return self.progress.epoch * self.data.steps_per_epoch + self.progress.step

    def _has_lost_patience(self) -> bool:
        return 0 < self.settings.early_stopping_patience <= self.progress.evaluations_without_improvement

    def _train_epoch(self) -> None:
        """Train the remaining steps of the current epoch."""
        self.data.start_epoch(self.progress.epoch, self.progress.step)
        self._stop_if_requested()
        for batches in self._steps():
            lr = self.optimization.lr
            losses = self.train_step(batches)
            global_step = self._steps_done
            self.progress.add_step(losses, lr)
            self.callbacks.on_step(StepEnd(self.progress.epoch + 1, global_step, losses, lr))
            if self.settings.save_every and self.progress.step % self.settings.save_every == 0:
                self.save_last()
            self._stop_if_requested()

    def _steps(self) -> Iterator[list[TrainBatch]]:
        try:
            yield from self.data.steps()
        except InputError:
            if self.process_group.size == 1:
                self._stop_if_requested()  # a SIGTERM that is sent to all processes of a job ends the workers first
            raise

    def _finish_epoch(self) -> None:
        """Save the epoch before its evaluation starts, so that no end of the evaluation loses it."""
        epoch = self.progress.epoch + 1
        is_evaluated = epoch % self.settings.eval_every == 0 or epoch == self.settings.epochs
        self.progress.finish_epoch(is_evaluated)
        if is_evaluated:
            self.save_last()
        self._complete_epoch()

    def _complete_epoch(self) -> None:
        if self.progress.evaluation_pending:
            self._evaluate()
        self.save_last()
        self.callbacks.on_epoch(dict(self.progress.history[-1]))

    def _evaluate(self) -> None:
        """Evaluate the last epoch, and keep its model if it is the best so far."""
        try:
            metrics = self.data.evaluate(self.evaluated_model.eval(), self._before_evaluation_batch)
            if self.progress.add_evaluation(metrics):
                self._best_details = metrics.details
                self.run.save_best(self.evaluated_model)
        except Stopped:
            raise
        except Exception:
            if self.process_group.size == 1:
                self._stop_evaluation_if_requested()  # the signal ended the workers first, as in _steps
            resume = by_user("--resume", "resume=True")
            say(f"Epoch {self.progress.epoch} is trained and saved; {resume} continues with its evaluation.")
            raise

    def _stop_if_requested(self) -> None:
        """Save and end on all processes if any received a stop signal, or a callback on the main one has failed."""
        if cause := self._cause_to_stop():
            self.save_last()
            self._stop(cause, f"epoch {self.progress.epoch + 1}, step {self.progress.step}")

    def _before_evaluation_batch(self, batch: int, batches: int) -> None:
        self._stop_evaluation_if_requested()
        self.callbacks.on_evaluation_step(EvaluationStep(self.progress.epoch, batch, batches))

    def _stop_evaluation_if_requested(self) -> None:
        """End like :meth:`_stop_if_requested`, without a save: the one before the evaluation is resumed from."""
        if cause := self._cause_to_stop():
            self._stop(cause, f"epoch {self.progress.epoch}, in its evaluation,")

    def _cause_to_stop(self) -> int:
        """Return, on all processes, the signal that any received, or that a callback has failed; 0 to go on."""
        failed = 0 if self.callbacks.error is None else _CALLBACK_FAILED
        return self.process_group.maximum(max(self._signals.received, failed), self.device)

    def _stop(self, cause: int, where: str) -> NoReturn:
        self.callbacks.raise_error()
        if cause == _CALLBACK_FAILED:
            raise RuntimeError(f"A callback on the main process failed; saved after {where}.")
        best = f" The best model so far is {self.run.folder / 'best'}." if self.progress.is_evaluated else ""
        again = by_user("command with --resume", "call with resume=True")
        raise Stopped(
            f"Stopped by {signal.Signals(cause).name} after {where} and saved in {self.run.folder / 'last'}; the same "
            f"{again} continues.{best}",
            cause,
        )

    def save_last(self) -> None:
        """Save everything that is needed to resume; all processes call this."""
        self.progress.seconds = time.monotonic() - self._started
        self.run.save_last(self.evaluated_model, self.state_dict(), self.progress.history)

    def train_step(self, batches: Sequence[TrainBatch]) -> dict[str, float]:
        """Do one optimizer step on its batches, and return ``total`` and the losses of the last layer.

        Losses are divided by the number of objects in the whole step, on all processes. Random numbers depend on the
        seed, the step and the process alone, whatever evaluations and callbacks draw and whichever mode they leave.

        Raises:
            NonFiniteError: a loss or a gradient is not finite; the message names losses, parameters and images, the
                batches are saved, and the weights are unchanged.
        """
        objects = sum(len(target.labels) for batch in batches for target in batch.targets)
        num_boxes = self.process_group.sum(torch.tensor(float(objects), device=self.device)).clamp(min=1.0)
        self.optimization.zero_grad()
        values = torch.zeros(len(LOSSES), device=self.device)
        self.network.train()
        with seeded(self._seed_of_step(), self.device):
            for index, batch in enumerate(batches):
                is_last = index == len(batches) - 1
                with nullcontext() if is_last else self.process_group.without_sync(self.network):
                    values += self._backward(batch, num_boxes / self.process_group.size)
        norm = self.optimization.clip_gradient(self.model)
        values = self.process_group.sum(values) / self.process_group.size
        losses = dict(zip(LOSSES, values.tolist(), strict=True))
        is_skipped_by_scaler = self.optimization.scaler.is_enabled()  # which then lowers the scale
        if not (math.isfinite(losses["total"]) and (is_skipped_by_scaler or bool(norm.isfinite()))):
            error = self.run.keep_failed_step(batches, self.model, losses)
            self.optimization.zero_grad()
            raise error
        self.optimization.step(self.model)
        return losses

    def _seed_of_step(self) -> int:
        step = (self.settings.seed, self.progress.epoch, self.progress.step)
        return seed_of(*step, _TRAINING, self.process_group.rank)

    def _backward(self, batch: TrainBatch, num_boxes: Tensor) -> Tensor:
        """Accumulate the gradient of one batch; return its losses in the order of ``LOSSES``."""
        images = batch.images.to(self.device, non_blocking=True)
        targets = [target.to(self.device, non_blocking=True) for target in batch.targets]
        with autocast(self.device, self.settings.precision):
            predictions: Predictions = self.network(images, targets)
        losses = self.criterion(predictions, targets, num_boxes)
        self.optimization.backward(losses.total)
        values = {"total": losses.total.detach(), **losses.terms}
        return torch.stack([values[name] for name in LOSSES])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that :meth:`load_state_dict` needs to resume from here; call it on all processes."""
        return {
            "model": self.model.state_dict(),
            **self.optimization.state_dict(),
            "progress": dict(vars(self.progress)),
            "steps_done": self._steps_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a saved state."""
        self.model.load_state_dict(state["model"])
        self.optimization.load_state_dict(state)
        self.progress = Progress(**state["progress"])
        self._started = time.monotonic() - self.progress.seconds

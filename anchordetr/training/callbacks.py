"""The base class of training callbacks, and a list of callbacks that is called like one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from anchordetr.errors import UsageError

log = logging.getLogger("anchordetr")


@dataclass(frozen=True)
class TrainingStart:
    """What ``on_train_start`` receives: facts that are known before the first step.

    Attributes:
        folder: the output folder of the run.
        model: the network in training.
        epochs: total number of epochs.
        steps_per_epoch: optimizer steps per epoch.
        steps_done: optimizer steps that were done before; 0 unless the run is resumed.
    """

    folder: Path
    model: nn.Module
    epochs: int
    steps_per_epoch: int
    steps_done: int


@dataclass(frozen=True)
class StepEnd:
    """What ``on_step`` receives: the optimizer step that has just been done.

    Attributes:
        epoch: number of the epoch, from 1.
        global_step: index of the step in the whole run, from 0; resuming continues the count.
        losses: unweighted ``class``, ``box`` and ``giou`` of the last decoder layer, and the weighted ``total``.
        lr: learning rate of everything but the backbone.
    """

    epoch: int
    global_step: int
    losses: Mapping[str, float]
    lr: float


@dataclass(frozen=True)
class EvaluationStep:
    """What ``on_evaluation_step`` receives: the batch of an evaluation that comes next.

    Attributes:
        epoch: number of the epoch that is evaluated, from 1.
        batch: index of the batch, from 0. batches: how many there are.
    """

    epoch: int
    batch: int
    batches: int


class Callback:
    """The base class of callbacks: methods that a subclass leaves out do nothing.

    Callbacks are called on the main process only, in the order given. When one raises, the other callbacks are
    still called, the state of the run is saved, all processes end, and the exception is raised again: nothing is lost,
    and the run can be resumed.

    Example:
        >>> class PrintAP(Callback):
        ...     def on_epoch(self, entry):
        ...         print(entry["epoch"], entry.get("ap"))
        >>> detector.train("data/pets", callbacks=[PrintAP()])
    """

    def on_train_start(self, start: TrainingStart) -> None:
        """Called once before the first step, also when a run is resumed."""

    def on_step(self, step: StepEnd) -> None:
        """Called after each optimizer step."""

    def on_evaluation_step(self, step: EvaluationStep) -> None:
        """Called before each batch of an evaluation."""

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        """Called after each epoch, once its state is saved, with its line of ``log.jsonl``.

        The entry holds ``epoch`` (from 1), the mean losses ``loss_total``, ``loss_class``, ``loss_box`` and
        ``loss_giou``, ``lr``, and, if the epoch was evaluated, all metrics of ``metrics.json``: ``ap``, ``ap50``, ...
        """

    def on_train_end(self, error: BaseException | None) -> None:
        """Called once at the end, however training ends.

        Args:
            error: the exception that ended it, such as :class:`~anchordetr.errors.Stopped`; None if it ended normally.
        """


def require_callbacks(callbacks: Sequence[Callback]) -> None:
    """Check the argument ``callbacks`` of a user.

    Raises:
        UsageError: it is no list of callbacks.
    """
    if not isinstance(callbacks, Sequence) or not all(isinstance(callback, Callback) for callback in callbacks):
        raise UsageError("callbacks must be a list of objects of subclasses of Callback, such as [StopAtAP(0.4)].")


class Callbacks(Callback):
    """A list of callbacks that is called like one; exceptions are logged and kept, to be raised later.

    Args:
        callbacks: of the user.
        displays: called before them; one that fails is logged and left out from then on.

    Attributes:
        error: the first exception that a callback raised, or None; :meth:`raise_error` raises it.
    """

    def __init__(self, callbacks: Sequence[Callback], displays: Sequence[Callback] = ()) -> None:
        self.callbacks = list(callbacks)
        self.displays = list(displays)
        self.error: Exception | None = None

    def on_train_start(self, start: TrainingStart) -> None:
        self._call("on_train_start", start)

    def on_step(self, step: StepEnd) -> None:
        self._call("on_step", step)

    def on_evaluation_step(self, step: EvaluationStep) -> None:
        self._call("on_evaluation_step", step)

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        self._call("on_epoch", entry)

    def on_train_end(self, error: BaseException | None) -> None:
        self._call("on_train_end", error)

    @contextmanager
    def during(self, start: TrainingStart) -> Iterator[None]:
        """Call :meth:`on_train_start` on entering, :meth:`on_train_end` on leaving, then raise a callback's error."""
        self.on_train_start(start)
        try:
            yield
        except BaseException as error:
            self.on_train_end(error)
            raise
        self.on_train_end(self.error)
        self.raise_error()

    def raise_error(self) -> None:
        """Raise the first exception of a callback, if there was one."""
        if self.error is not None:
            self.error.add_note("A training callback raised this. Everything up to the last step is saved.")
            raise self.error

    def _call(self, method: str, argument: object) -> None:
        for display in list(self.displays):
            try:
                getattr(display, method)(argument)
            except (Exception, SystemExit) as error:  # rich exits when its terminal is gone
                self.displays.remove(display)
                log.warning("%s failed, and training goes on without it: %r", type(display).__name__, error)
        for callback in self.callbacks:
            try:
                getattr(callback, method)(argument)
            except Exception as error:
                log.warning("%s.%s failed: %r", type(callback).__name__, method, error)
                self.error = error if self.error is None else self.error

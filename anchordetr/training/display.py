"""The progress display of training, on stderr: a bar on a terminal, lines in a pipe or a file."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from anchordetr.console import duration
from anchordetr.device import peak_memory
from anchordetr.training.callbacks import Callback, EvaluationStep, StepEnd, TrainingStart
from anchordetr.training.progress import LOSSES

_BAR_WIDTH = 20
_LEAST_PAUSE, _LONGEST_PAUSE = 5, 60  # seconds between two lines


class ProgressDisplay(Callback):
    """Shows epoch, step, time left and smoothed losses, and prints one line per epoch.

    On a terminal they are a bar, with the terms of the loss, learning rate and memory where they fit. Elsewhere they
    are a line after every tenth of an epoch, but not within five seconds of the last one, and at least every minute.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.is_bar = self.console.is_interactive
        self.bar = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}"),
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.fields[state]}"),
            console=self.console,
            refresh_per_second=2,
            disable=not self.is_bar,
        )
        self._task = self.bar.add_task("train", total=None, epoch="", state="")
        self._smoothed: dict[str, float] = {}

    def on_train_start(self, start: TrainingStart) -> None:
        self._run = start
        self._steps = start.epochs * start.steps_per_epoch
        self._started = self._printed = monotonic()
        self._done = self._printed_done = start.steps_done
        epoch = min(start.steps_done // start.steps_per_epoch + 1, start.epochs)
        self._show(epoch, start.steps_done, "starting")
        self.bar.start()

    def on_step(self, step: StepEnd) -> None:
        for name in LOSSES:
            self._smoothed[name] = 0.95 * self._smoothed.get(name, step.losses[name]) + 0.05 * step.losses[name]
        done = self._done = step.global_step + 1
        shown = [f"{done}/{self._steps}", f"{self._time_left(done)} left", f"loss {self._smoothed['total']:.3f}"]
        if self.is_bar:
            terms = "  ".join(f"{name} {value:.3f}" for name, value in self._smoothed.items() if name != "total")
            more = [terms, f"lr {step.lr:.1e}", f"{peak_memory() / 2**30:.1f} GiB"]
            self._show(step.epoch, done, self._fitting(step.epoch, shown, more))
        else:
            self._print_if_due(step.epoch, "  ".join(shown))

    def on_evaluation_step(self, step: EvaluationStep) -> None:
        text = f"evaluating, batch {step.batch + 1} of {step.batches}"
        if self.is_bar:
            self._show(step.epoch, step.epoch * self._run.steps_per_epoch, text)
        else:
            self._print_if_due(step.epoch, text)

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        line = f"{self._place(entry['epoch'])}  loss {entry['loss_total']:.3f}"
        if "ap" in entry:
            line += f"  AP {entry['ap']:.3f}  AP50 {entry['ap50']:.3f}  AP75 {entry['ap75']:.3f}"
        self._show(entry["epoch"], entry["epoch"] * self._run.steps_per_epoch, "")
        self._print(line)

    def on_train_end(self, error: BaseException | None) -> None:
        self.bar.stop()

    def _place(self, epoch: int) -> str:
        return f"epoch {epoch:>{len(str(self._run.epochs))}}/{self._run.epochs}"

    def _time_left(self, done: int) -> str:
        """Return the time for the steps that are left, from the mean of those since the start, evaluations included."""
        return duration((monotonic() - self._started) / (done - self._run.steps_done) * (self._steps - done))

    def _show(self, epoch: int, done: int, state: str) -> None:
        self.bar.update(self._task, total=self._steps, completed=done, epoch=f"{epoch}/{self._run.epochs}", state=state)

    def _fitting(self, epoch: int, shown: list[str], more: list[str]) -> str:
        """Return ``shown``, and as many of the other texts as fit on the terminal's line."""
        room = self.console.width - len(f"epoch {epoch}/{self._run.epochs} ") - _BAR_WIDTH - 2
        count = len(more)
        while count and len("  ".join([*shown, *more[:count]])) > room:
            count -= 1
        return "  ".join([*shown, *more[:count]])

    def _print_if_due(self, epoch: int, text: str) -> None:
        is_tenth = 10 * (self._done - self._printed_done) >= self._run.steps_per_epoch
        if monotonic() - self._printed >= (_LEAST_PAUSE if is_tenth else _LONGEST_PAUSE):
            self._print(f"{self._place(epoch)}  {text}")

    def _print(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, soft_wrap=True)
        self._printed, self._printed_done = monotonic(), self._done

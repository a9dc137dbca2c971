"""The progress display of training, on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from anchordetr.device import peak_memory
from anchordetr.training.callbacks import Callback, StepEnd, TrainingStart
from anchordetr.training.progress import LOSSES


class ProgressDisplay(Callback):
    """Shows a progress bar with smoothed losses, and prints one line per epoch."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            refresh_per_second=2,
        )
        self._task = self.bar.add_task("train", total=None, epoch="", losses="")
        self._epochs = 0
        self._smoothed: dict[str, float] = {}

    def on_train_start(self, start: TrainingStart) -> None:
        self._epochs = start.epochs
        epoch = min(start.steps_done // start.steps_per_epoch + 1, start.epochs)
        total = start.epochs * start.steps_per_epoch
        self.bar.update(self._task, total=total, completed=start.steps_done, epoch=f"{epoch}/{self._epochs}")
        self.bar.start()

    def on_step(self, step: StepEnd) -> None:
        for name in LOSSES:
            self._smoothed[name] = 0.95 * self._smoothed.get(name, step.losses[name]) + 0.05 * step.losses[name]
        losses = " ".join(f"{name} {value:.3f}" for name, value in self._smoothed.items())
        text = f"loss {losses} lr {step.lr:.1e} {peak_memory() / 2**30:.1f} GiB"
        self.bar.update(self._task, advance=1, epoch=f"{step.epoch}/{self._epochs}", losses=text)

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        line = f"epoch {entry['epoch']:>3}/{self._epochs}  loss {entry['loss_total']:.3f}"
        if "ap" in entry:
            line += f"  AP {entry['ap']:.3f}  AP50 {entry['ap50']:.3f}  AP75 {entry['ap75']:.3f}"
        self.bar.console.print(line, highlight=False)

    def on_train_end(self, error: BaseException | None) -> None:
        self.bar.stop()

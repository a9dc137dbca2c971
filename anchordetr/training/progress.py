"""What is shown on stderr while a detector is trained."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from anchordetr.console import ProgressBar
from anchordetr.device import peak_memory

_LOSSES = ("total", "class", "box", "giou")


class RichReporter(ProgressBar):
    """Shows the progress of ``epochs`` × ``steps`` steps, ``done`` of them before; use it as a context manager."""

    def __init__(self, epochs: int, steps: int, done: int = 0) -> None:
        self.epochs = epochs
        self.steps = steps
        self._smooth: dict[str, float] = {}
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
        self._task = self.bar.add_task(
            "train", total=epochs * steps, completed=done, epoch=self._count(done // steps), losses=""
        )

    def on_step(self, epoch: int, step: int, losses: dict[str, float], lr: float) -> None:
        """Advance by one step."""
        for name in _LOSSES:
            self._smooth[name] = 0.95 * self._smooth.get(name, losses[name]) + 0.05 * losses[name]
        text = " ".join(f"{name} {self._smooth[name]:.3f}" for name in _LOSSES)
        text = f"loss {text} lr {lr:.1e} {peak_memory() / 2**30:.1f} GiB"
        self.bar.update(self._task, advance=1, epoch=self._count(epoch), losses=text)

    def on_epoch(self, entry: dict[str, Any]) -> None:
        """Print one line."""
        line = f"epoch {entry['epoch']:>3}/{self.epochs}  loss {entry['loss_total']:.3f}"
        if "ap" in entry:
            line += f"  AP {entry['ap']:.3f}  AP50 {entry['ap50']:.3f}  AP75 {entry['ap75']:.3f}"
        self.bar.console.print(line, highlight=False)

    def _count(self, epoch: int) -> str:
        return f"{min(epoch + 1, self.epochs)}/{self.epochs}"


class SilentReporter:
    """Shows nothing: for the processes beside the main one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def on_step(self, epoch: int, step: int, losses: dict[str, float], lr: float) -> None: ...

    def on_epoch(self, entry: dict[str, Any]) -> None: ...

"""Losses and metrics for TensorBoard, beside what is shown on screen."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anchordetr.errors import UsageError
from anchordetr.training.trainer import Reporter


class TensorBoardReporter:
    """Tells another reporter everything, and TensorBoard the numbers.

    Args:
        shown: the other reporter.
        folder: where the event files go.
        steps: optimizer steps of an epoch.

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, shown: Reporter, folder: Path, steps: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "train.tensorboard needs TensorBoard: pip install anchordetr[tensorboard], or leave it out."
            ) from error
        self.shown = shown
        self.steps = steps
        self.writer = SummaryWriter(folder)

    def __enter__(self) -> Self:
        self.shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()
        self.shown.__exit__(kind, error, traceback)

    def on_step(self, epoch: int, step: int, losses: dict[str, float], lr: float) -> None:
        """Write the losses and the learning rate of a step."""
        for name, value in {**losses, "lr": lr}.items():
            self.writer.add_scalar(f"step/{name}", value, epoch * self.steps + step)
        self.shown.on_step(epoch, step, losses, lr)

    def on_epoch(self, entry: dict[str, Any]) -> None:
        """Write the mean losses and the metrics of an epoch."""
        for name, value in entry.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"epoch/{name}", value, entry["epoch"])
        self.shown.on_epoch(entry)

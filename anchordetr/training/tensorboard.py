"""Losses and metrics for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anchordetr.errors import UsageError
from anchordetr.training.callbacks import Callback, StepEnd, TrainingStart


class TensorBoard(Callback):
    """Writes losses, learning rate and metrics into the folder ``tensorboard`` of the run.

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "train.tensorboard needs TensorBoard: pip install anchordetr[tensorboard], or set it to false."
            ) from error
        self._open = SummaryWriter
        self._writer: SummaryWriter | None = None

    def on_train_start(self, start: TrainingStart) -> None:
        self._writer = self._open(start.folder / "tensorboard")

    def on_step(self, step: StepEnd) -> None:
        for name, value in {**step.losses, "lr": step.lr}.items():
            self._add(f"step/{name}", value, step.global_step)

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        for name, value in entry.items():
            if isinstance(value, float):
                self._add(f"epoch/{name}", value, entry["epoch"])

    def on_train_end(self, error: BaseException | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, name: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)

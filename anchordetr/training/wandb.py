"""Losses and metrics for Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anchordetr.errors import UsageError
from anchordetr.training.callbacks import Callback, StepEnd, TrainingStart
from anchordetr.training.external_run import keep_id, kept_id


class WandB(Callback):
    """Logs losses, learning rate and metrics to Weights & Biases, into the project that its variables name.

    A resumed training run continues its W&B run. The modes of W&B work as usual: with ``WANDB_MODE=offline`` nothing
    is sent.

    Args:
        config: settings of the run, by name.

    Raises:
        UsageError: W&B is not installed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UsageError(
                "train.wandb needs Weights & Biases: pip install anchordetr[wandb], or set it to false."
            ) from error
        self._wandb = wandb
        self._config = dict(config)
        self._run: Any = None

    def on_train_start(self, start: TrainingStart) -> None:
        file = start.folder / "wandb_run.json"
        self._run = self._wandb.init(
            dir=start.folder,
            name=start.folder.resolve().name,
            id=kept_id(file, start),
            resume="allow",
            config=self._config,
        )
        keep_id(file, self._run.id)
        for axis, group in (("global_step", "step"), ("epoch", "epoch")):  # W&B's own steps must not go back
            self._run.define_metric(f"{group}/*", step_metric=axis)

    def on_step(self, step: StepEnd) -> None:
        values = {f"step/{name}": value for name, value in {**step.losses, "lr": step.lr}.items()}
        self._log({"global_step": step.global_step, **values})

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        values = {f"epoch/{name}": value for name, value in entry.items() if isinstance(value, float)}
        self._log({"epoch": entry["epoch"], **values})

    def on_train_end(self, error: BaseException | None) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if error is None else 1)

    def _log(self, values: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.log(dict(values))

"""Losses and metrics for MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from anchordetr.errors import Stopped, UsageError
from anchordetr.training.callbacks import Callback, StepEnd, TrainingStart
from anchordetr.training.external_run import keep_id, kept_id

_EXPERIMENT = "anchordetr"
_MOST_METRICS = 500  # of a request; MLflow allows 1000
_MOST_PARAMS = 100
_LONGEST_VALUE = 500


class MLflow(Callback):
    """Logs losses, learning rate and metrics to MLflow, where its variables and settings say.

    The experiment is the one that ``MLFLOW_EXPERIMENT_NAME`` names, or ``anchordetr``. A resumed training run continues
    its MLflow run. Steps are sent in groups.

    Args:
        config: settings of the run, by name.

    Raises:
        UsageError: MLflow is not installed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise UsageError(
                "train.mlflow needs MLflow: pip install anchordetr[mlflow], or set it to false."
            ) from error
        self._mlflow = mlflow
        self._config = dict(config)
        self._metrics: list[Any] = []
        self._id: str | None = None

    def on_train_start(self, start: TrainingStart) -> None:
        file = start.folder / "mlflow_run.json"
        self._client = self._mlflow.MlflowClient()
        self._id = kept_id(file, start)
        if self._id is None:
            self._id = self._create(start.folder.resolve().name)
            keep_id(file, self._id)
        else:
            self._client.update_run(self._id, status="RUNNING")

    def on_step(self, step: StepEnd) -> None:
        self._add("step", {**step.losses, "lr": step.lr}, step.global_step)
        if len(self._metrics) >= _MOST_METRICS:
            self._send()

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        self._add("epoch", {name: value for name, value in entry.items() if isinstance(value, float)}, entry["epoch"])
        self._send()

    def on_train_end(self, error: BaseException | None) -> None:
        if self._id is not None:
            self._send()
            status = "FINISHED" if error is None else "KILLED" if isinstance(error, Stopped) else "FAILED"
            self._client.set_terminated(self._id, status)

    def _create(self, name: str) -> str:
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        experiment = self._client.get_experiment_by_name(title)
        experiment_id = self._client.create_experiment(title) if experiment is None else experiment.experiment_id
        run_id: str = self._client.create_run(experiment_id, run_name=name).info.run_id
        params = [self._mlflow.entities.Param(key, str(value)[:_LONGEST_VALUE]) for key, value in self._config.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(run_id, params=params[first : first + _MOST_PARAMS])
        return run_id

    def _add(self, group: str, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        for name, value in values.items():
            self._metrics.append(self._mlflow.entities.Metric(f"{group}/{name}", value, now, step))

    def _send(self) -> None:
        if self._id is not None:
            self._client.log_batch(self._id, metrics=self._metrics)
            self._metrics = []

"""W&B and MLflow: with their own local modes where they are installed, and with stand-ins everywhere."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.errors import Stopped, UsageError
from anchordetr.training.callbacks import Callback, StepEnd


class StopsAfterThree(Callback):
    def on_step(self, step: StepEnd) -> None:
        if step.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def config(small_config: Config) -> Config:
    """Two epochs of two steps; the run is stopped in the second one."""
    return small_config.updated({"train.epochs": 2})


def stop_and_resume(config: Config, data: Path, folder: Path) -> None:
    with pytest.raises(Stopped):
        Detector(config, device="cpu").train(data, folder, callbacks=[StopsAfterThree()])
    Detector.from_run(folder, device="cpu").train(data, folder, resume=True)


class Run:
    """A run of W&B."""

    id = "abc123"

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.logged, self.code = options, [], -1

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) in (("step/*", "global_step"), ("epoch/*", "epoch"))

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


def test_a_resumed_run_continues_its_run_of_wandb(
    config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Run] = []

    def init(**options: Any) -> Run:
        runs.append(Run(options))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    stop_and_resume(config.updated({"train.wandb": True}), coco_folder, tmp_path / "pets")
    first, second = runs
    assert (first.options["id"], second.options["id"]) == (None, "abc123")
    assert (first.options["name"], first.options["dir"], first.options["resume"]) == (
        "pets",
        tmp_path / "pets",
        "allow",
    )
    assert first.options["config"]["train.epochs"] == 2
    logged = first.logged + second.logged
    assert [values["global_step"] for values in logged if "global_step" in values] == [0, 1, 2, 3]
    assert [values["epoch"] for values in logged if "epoch/ap" in values] == [1, 2]
    assert logged[0].keys() == {"global_step", *(f"step/{name}" for name in ("total", "class", "box", "giou", "lr"))}
    assert (first.code, second.code) == (1, 0)


def test_a_new_run_in_an_old_folder_is_a_new_run_of_wandb(
    config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[Any] = []
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=lambda **options: ids.append(options["id"]) or Run(options))
    )
    for _ in range(2):
        Detector(config, device="cpu").train(coco_folder, tmp_path, epochs=1, wandb=True, overwrite=True)
    assert ids == [None, None]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_logger_names_its_extra(
    name: str, config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"train\.{name} needs .*pip install anchordetr\[{name}\]"):
        Detector(config, device="cpu").train(coco_folder, tmp_path, **{name: True})


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_failing_logger_ends_no_run(
    name: str,
    config: Config,
    coco_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(**options: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, name, SimpleNamespace(init=fail, MlflowClient=fail))
    Detector(config, device="cpu").train(coco_folder, tmp_path, **{name: True})
    assert "failed, and training goes on without it: ConnectionError('no network')" in caplog.text
    assert (tmp_path / "metrics.json").exists()


def test_wandb_offline(
    config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("wandb", reason="needs the extra anchordetr[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    stop_and_resume(config.updated({"train.wandb": True}), coco_folder, tmp_path)
    run_id = json.loads((tmp_path / "wandb_run.json").read_text())["id"]
    files = list((tmp_path / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"))
    assert len(files) == 2
    assert "goes on without it" not in caplog.text


@pytest.mark.filterwarnings("default")
def test_mlflow_in_a_local_database(
    config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra anchordetr[mlflow]")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    stop_and_resume(config.updated({"train.mlflow": True}), coco_folder, tmp_path / "pets")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("anchordetr").experiment_id])
    assert run.info.run_id == json.loads((tmp_path / "pets" / "mlflow_run.json").read_text())["id"]
    assert (run.info.run_name, run.info.status) == ("pets", "FINISHED")
    assert run.data.params["train.epochs"] == "2"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "step/total")] == [0, 1, 2, 3]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "epoch/ap")] == [1, 2]
    assert "goes on without it" not in caplog.text

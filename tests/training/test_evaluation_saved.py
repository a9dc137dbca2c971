"""An epoch is saved before its evaluation, which any error or signal may end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_runs import assert_same_runs

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.errors import Stopped
from anchordetr.predictor import detect
from anchordetr.training.run import TrainingRun
from anchordetr.training.trainer import Trainer


@pytest.fixture
def config(small_config: Config) -> Config:
    """Two epochs of four steps; each evaluation has two batches."""
    return small_config.updated({"train.batch_size": 2, "train.epochs": 2, "model.dropout": 0.1})


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the training steps."""
    done: list[int] = []
    step = Trainer.train_step

    def count(self: Trainer, batches: Any) -> dict[str, float]:
        done.append(self.progress.epoch)
        return step(self, batches)

    monkeypatch.setattr(Trainer, "train_step", count)
    return done


def at_call(number: int, action: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does something before one of its calls."""
    calls: list[int] = []

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            action()
        return function(*arguments, **named)

    return call


def fail(error: Exception) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


FAULTS = {
    "detect": ("anchordetr.detector.detect", detect, 3, ArithmeticError("mine")),
    "best": ("anchordetr.training.run.TrainingRun.save_best", TrainingRun.save_best, 1, OSError("mine")),
}


@pytest.mark.parametrize(("target", "function", "call", "error"), FAULTS.values(), ids=FAULTS.keys())
def test_an_error_of_an_evaluation_loses_no_step(
    target: str,
    function: Any,
    call: int,
    error: Exception,
    config: Config,
    coco_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(target, at_call(call, fail(error), function))
        with pytest.raises(type(error), match="mine"):
            Detector(config, device="cpu").train(coco_folder, tmp_path / "parts")
    assert "is trained and saved; resume=True continues with its evaluation" in capsys.readouterr().err
    Detector.from_run(tmp_path / "parts", device="cpu").train(coco_folder, tmp_path / "parts", resume=True)
    assert steps == [0] * 4 + [1] * 4
    Detector(config, device="cpu").train(coco_folder, tmp_path / "whole")
    assert_same_runs(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize(("number", "batch"), [(signal.SIGTERM, 1), (signal.SIGINT, 3)])
def test_a_signal_ends_an_evaluation_between_batches(
    number: int,
    batch: int,
    config: Config,
    coco_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[int],
) -> None:
    """Batches 1 and 2 are those of the first epoch, 3 and 4 of the second."""
    batches: list[int] = []

    def detect_and_count(*arguments: Any, **named: Any) -> Any:
        batches.append(1)
        return detect(*arguments, **named)

    with monkeypatch.context() as patch:
        send = at_call(batch, lambda: os.kill(os.getpid(), number), detect_and_count)
        patch.setattr("anchordetr.detector.detect", send)
        with pytest.raises(Stopped, match=rf"epoch {1 + batch // 3}, in its evaluation, .*resume=True") as caught:
            Detector(config, device="cpu").train(coco_folder, tmp_path / "parts")
    assert caught.value.signal_number == number
    assert len(batches) == batch
    Detector(config, device="cpu").train(coco_folder, tmp_path / "parts", resume=True)
    assert steps == [0] * 4 + [1] * 4
    Detector(config, device="cpu").train(coco_folder, tmp_path / "whole")
    assert_same_runs(tmp_path / "parts", tmp_path / "whole")


def test_a_run_resumed_to_its_end_without_an_evaluation_is_evaluated(
    config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[int]
) -> None:
    config = config.updated({"train.eval_every": 9, "train.epochs": 9})
    with monkeypatch.context() as patch:
        stop = at_call(2, lambda: os.kill(os.getpid(), signal.SIGTERM), TrainingRun.save_last)
        patch.setattr(TrainingRun, "save_last", stop)
        with pytest.raises(Stopped):
            Detector(config, device="cpu").train(coco_folder, tmp_path)
    Detector.from_run(tmp_path, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=1)
    assert (tmp_path / "best" / "model.safetensors").exists()


def test_a_failed_report_is_a_warning(
    config: Config,
    coco_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = config.updated({"train.epochs": 1})
    monkeypatch.setattr("anchordetr.detector.plot_report", fail_always)
    monkeypatch.setattr("anchordetr.training.run.write_report", fail_always)
    Detector(config, device="cpu").train(coco_folder, tmp_path)
    assert "The figures of" in caplog.text
    assert "The report of" in caplog.text
    assert (tmp_path / "metrics.json").exists()


def fail_always(*arguments: object) -> None:
    raise MemoryError("too many classes")

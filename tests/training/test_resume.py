"""Stopping and resuming: at any step, with any setting, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import assert_same_runs, assert_same_tensors, saved_weights

from anchordetr import Detector
from anchordetr.cli.main import run as run_command
from anchordetr.config import Config
from anchordetr.errors import Stopped
from anchordetr.training import state as checkpoint
from anchordetr.training.display import ProgressDisplay
from anchordetr.weights.saved_model import read_model


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Send this process a signal after so many steps, once."""
    steps = {"left": 0, "signal": signal.SIGTERM}
    report = ProgressDisplay.on_step

    def on_step(self: ProgressDisplay, *arguments: Any) -> None:
        report(self, *arguments)
        steps["left"] -= 1
        if steps["left"] == 0:
            os.kill(os.getpid(), steps["signal"])

    monkeypatch.setattr(ProgressDisplay, "on_step", on_step)

    def arm(count: int, number: signal.Signals = signal.SIGTERM) -> None:
        steps.update(left=count, signal=number)

    return arm


_BEYOND = {
    "model.denoising_groups": 2,
    "model.denoising_negatives": True,
    "model.query_groups": 2,
    "loss.classification": "varifocal",
}


_EMA = {"train.ema_decay": 0.9, "train.grad_accum_steps": 2, "train.schedule": "cosine", "train.warmup": 0.2}


@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        pytest.param(1, {}, id="1-plain"),
        pytest.param(4, {}, id="4-plain"),
        pytest.param(5, {}, id="5-plain"),
        pytest.param(3, {"data.workers": 2}, id="3-workers"),
        pytest.param(6, _EMA, id="6-EMA, accumulation"),
        pytest.param(2, {"model.dropout": 0.1, "train.save_every": 1}, id="2-dropout"),
        pytest.param(3, _BEYOND, id="3-denoising, groups, varifocal"),
    ],
)
def test_stopping_at_any_step_and_going_on_equals_never_stopping(
    steps: int, settings: dict[str, Any], small_config: Config, coco_folder: Path, tmp_path: Path, kill_after: Any
) -> None:
    config = small_config.updated({"train.batch_size": 2, "train.epochs": 2, **settings})

    def run(name: str, resume: bool = False) -> None:
        Detector(config, device="cpu").train(coco_folder, tmp_path / name, resume=resume)

    run("whole")
    kill_after(steps)
    with pytest.raises(Stopped, match=f"epoch {1 + steps // 5}, step {steps % 5 + steps // 5} .*resume=True"):
        run("parts")
    run("parts", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_resuming_equals_never_stopping(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    def run(folder: str, epochs: int, resume: bool = False) -> None:
        torch.manual_seed(1)
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / folder, resume=resume, epochs=epochs)

    small_config = small_config.updated({"train.drop_at": 1.0, "train.warmup": 0.0})
    run("whole", epochs=3)
    run("parts", epochs=1)
    run("parts", epochs=3, resume=True)
    assert_same_tensors(saved_weights(tmp_path / "whole" / "last"), saved_weights(tmp_path / "parts" / "last"))
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "parts" / "log.jsonl").read_text()


def test_the_commands_tell_how_they_ended(
    small_config: Config, coco_folder: Path, tmp_path: Path, kill_after: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Detector(small_config, device="cpu").save_pretrained(tmp_path / "start")
    arguments = ["train", "--weights", str(tmp_path / "start"), "--data", str(coco_folder), "--device", "cpu"]
    arguments += ["--output-dir", str(tmp_path / "run"), "--epochs", "2", "--batch-size", "2"]
    kill_after(3, signal.SIGINT)
    with pytest.raises(SystemExit) as exit_info:
        run_command(arguments)
    assert exit_info.value.code == 130
    told = " ".join(capsys.readouterr().err.split())
    assert f"Stopped by SIGINT after epoch 1, step 3 and saved in {tmp_path}/run/last;" in told
    assert "best model" not in told
    short = ["train", "--data", str(coco_folder), "--output-dir", str(tmp_path / "run"), "--resume", "--device", "cpu"]
    with pytest.raises(SystemExit) as exit_info:
        run_command(short)  # the settings are those of the run
    assert exit_info.value.code == 0
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2


_KILLS = int(os.environ.get("ANCHORDETR_KILLS", "3"))


_EPOCHS = 3 + _KILLS


def start(folder: Path, data: Path, output: Path) -> subprocess.Popen[bytes]:
    arguments = ["train", "--weights", str(folder), "--data", str(data), "--output-dir", str(output)]
    arguments += ["--epochs", str(_EPOCHS)]
    more = ["--set", "train.save_every=1", "--batch-size", "2", "--device", "cpu", "--workers", "0", "--seed", "0"]
    resume = ["--resume"] if (output / "last" / "training_state.pt").exists() else []
    command = [sys.executable, "-m", "anchordetr", *arguments, *more, *resume]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_at_most_a_step(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    """ANCHORDETR_KILLS says how often; the killed run ends with the weights of one that was never killed."""
    Detector(small_config, ["circle", "rectangle", "triangle"], device="cpu").save_pretrained(tmp_path / "start")
    assert start(tmp_path / "start", coco_folder, tmp_path / "whole").wait() == 0
    dice, checked, kills, done = random.Random(0), 0, 0, (0, 0)
    while kills < _KILLS:
        process = start(tmp_path / "start", coco_folder, tmp_path / "killed")
        state = tmp_path / "killed" / "last" / checkpoint.STATE_FILE
        stamp = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == stamp):
            time.sleep(0.01)  # killed while Python starts, there would be nothing to see
        time.sleep(dice.random() * 0.4)
        process.kill()
        if process.wait() == 0:
            break
        kills += 1
        state_now = checkpoint.load_state(tmp_path / "killed" / "last")
        position = state_now["progress"]["epoch"], state_now["progress"]["step"]
        assert position > done
        done = position
        for folder in ("best", "last"):
            if (tmp_path / "killed" / folder / "model.safetensors").exists():
                read_model(tmp_path / "killed" / folder)
                checked += 1
        for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines():
            json.loads(line)
    assert start(tmp_path / "start", coco_folder, tmp_path / "killed").wait() == 0
    assert_same_runs(tmp_path / "whole", tmp_path / "killed")
    print(f"{kills} kills, {checked} model folders read, last at epoch and step {done}")

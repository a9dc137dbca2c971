"""Stopping and going on: at any step, with any setting, bit for bit."""

from __future__ import annotations

import errno
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

from anchordetr import Detector
from anchordetr.cli.main import run as run_command
from anchordetr.config import Config
from anchordetr.data.loader import EpochBatches, TrainSamples
from anchordetr.errors import InputError, Stopped
from anchordetr.training import state as checkpoint
from anchordetr.training.display import ProgressDisplay
from anchordetr.training.random_state import get_random_state, set_random_state
from anchordetr.weights.saved_model import read_model


def assert_same_runs(first: Path, second: Path) -> None:
    for name in ("best", "last"):
        one, two = (read_model(folder / name).weights for folder in (first, second))
        assert one.keys() == two.keys()
        assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())
    for name in ("log.jsonl", "log.csv", "metrics.json"):
        assert (first / name).read_text() == (second / name).read_text()


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
_AVERAGE = {"train.ema": 0.9, "train.accumulate": 2, "train.schedule": "cosine", "train.warmup": 0.2}


@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        pytest.param(1, {}, id="1-plain"),
        pytest.param(4, {}, id="4-plain"),
        pytest.param(5, {}, id="5-plain"),
        pytest.param(3, {"data.workers": 2}, id="3-workers"),
        pytest.param(6, _AVERAGE, id="6-average, accumulation"),
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
    with pytest.raises(Stopped, match=f"epoch {1 + steps // 5}, step {steps % 5 + steps // 5} .*--resume"):
        run("parts")
    run("parts", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


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
    assert "Stopped after epoch 1, step 3 and saved" in capsys.readouterr().err
    short = ["train", "--data", str(coco_folder), "--output-dir", str(tmp_path / "run"), "--resume", "--device", "cpu"]
    with pytest.raises(SystemExit) as exit_info:
        run_command(short)  # the settings are those of the run
    assert exit_info.value.code == 0
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2


def test_another_configuration_is_shown_and_refused(
    small_config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)
    changed = small_config.updated({"train.lr": 0.5, "loss.box_weight": 1.0})
    with pytest.raises(InputError, match=r"another configuration \(loss\.box_weight, train\.lr\).*--accept-changes"):
        Detector(changed, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2)
    shown = " ".join(capsys.readouterr().err.split())
    assert "train.lr: 0.0013 -> 0.5" in shown
    assert "train.epochs: 1 -> 2" in shown
    Detector(changed, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2, accept_changes=True)


def test_a_run_saved_before_a_setting_existed_goes_on(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)
    state = checkpoint.load_state(tmp_path / "last")
    del state["config"]["model"]["denoising_groups"], state["config"]["train"]["clip_norm"]
    checkpoint.save_state(tmp_path / "last", state)
    with pytest.raises(InputError, match=r"another configuration \(train\.clip_norm\)"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2)
    changed = small_config.updated({"train.clip_norm": Config().train.clip_norm})
    Detector(changed, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2)


def test_a_damaged_state_is_named_and_the_best_model_is_left(
    small_config: Config, coco_folder: Path, tmp_path: Path
) -> None:
    Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)
    file = tmp_path / "last" / "training_state.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"training_state\.pt is damaged"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2)
    Detector.from_pretrained(tmp_path, device="cpu")


def test_a_full_disk_keeps_what_was_saved(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config.updated({"train.batch_size": 2, "train.save_every": 1})
    save, calls = torch.save, []

    def fill_up(state: Any, file: Path) -> None:
        calls.append(file)
        if len(calls) == 3:
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        save(state, file)

    monkeypatch.setattr(checkpoint.torch, "save", fill_up)
    with pytest.raises(OSError, match="No space left"):
        Detector(config, device="cpu").train(coco_folder, tmp_path / "parts", epochs=1)
    assert checkpoint.load_state(tmp_path / "parts" / "last")["progress"]["step"] == 2
    assert not [file for file in (tmp_path / "parts").rglob("*") if "tmp" in file.name]
    monkeypatch.undo()
    Detector(config, device="cpu").train(coco_folder, tmp_path / "parts", resume=True, epochs=1)
    Detector(config, device="cpu").train(coco_folder, tmp_path / "whole", epochs=1)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / "file" / "run", epochs=1)

    def refuse(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("anchordetr.training.run.tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / "run", epochs=1)


def test_random_states_come_back() -> None:
    import numpy as np

    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    state = get_random_state()
    first = draw()
    set_random_state(state)
    assert draw() == first


@pytest.mark.parametrize(("ranks", "parts"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_steps_hold_the_same_images_however_they_are_shared(ranks: int, parts: int) -> None:
    def steps(ranks: int, parts: int, start: int = 0) -> list[set[tuple[int, int, int]]]:
        shares = []
        for rank in range(ranks):
            batches = EpochBatches(20, 6, seed=3, share=(rank, ranks), parts=parts)
            batches.epoch, batches.start = 4, start
            shares.append(list(batches))
            assert len(shares[-1]) == len(batches) == (3 - start) * parts
        return [
            {key for share in shares for batch in share[step * parts : (step + 1) * parts] for key in batch}
            for step in range(3 - start)
        ]

    assert steps(ranks, parts) == steps(1, 1)
    assert steps(ranks, parts, start=2) == steps(1, 1)[2:]


def test_a_step_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="choose a multiple of 4 for --batch-size"):
        EpochBatches(20, 6, seed=0, share=(0, 2), parts=2)


def test_a_dead_worker_is_named(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: TrainSamples, key: tuple[int, int, int]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(TrainSamples, "__getitem__", die)
    with pytest.raises(InputError, match=r"process that loads images died .*--workers 0"):
        Detector(small_config.updated({"data.workers": 1}), device="cpu").train(coco_folder, tmp_path, epochs=1)


# ---------------------------------------------------------------- kill -9

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
        state = tmp_path / "killed" / "last" / "training_state.pt"
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

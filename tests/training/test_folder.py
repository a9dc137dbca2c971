"""The folder of a run: its lock, and whether it holds a run."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from training_runs import assert_same_runs

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.errors import InputError
from anchordetr.locks import Lock
from anchordetr.training.folder import run_folder
from anchordetr.training.state import PREVIOUS_STATE_FILE, STATE_FILE, holds_state, load_state

_KILLS = int(os.environ.get("ANCHORDETR_KILLS", "3"))
_SLOW_SAVE = """
import sys, time, torch
from anchordetr.training import state
save = torch.save
def slow(content, file):
    save(content, file)
    print("saving", flush=True)
    time.sleep(float(sys.argv[3]))
if sys.argv[3] != "0":
    torch.save = slow
from anchordetr import Detector
Detector.from_pretrained(sys.argv[1], device="cpu").train(sys.argv[2], sys.argv[4])
"""


@pytest.fixture
def start(small_config: Config, tmp_path: Path) -> Path:
    config = small_config.updated({"train.epochs": 1})
    Detector(config, ["circle", "rectangle", "triangle"], device="cpu").save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def train(start: Path, data: Path, output: Path, seconds_of_a_save: float = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SLOW_SAVE, str(start), str(data), str(seconds_of_a_save), str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_save(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"


def hidden(folder: Path) -> list[Path]:
    return [file for file in folder.rglob(".*") if file.name != ".lock"]


def test_a_run_killed_in_its_first_save_starts_over(
    start: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = train(start, coco_folder, tmp_path / "run", seconds_of_a_save=60)
    wait_for_save(process)
    with pytest.raises(InputError, match=rf"in use by process {process.pid} on {socket.gethostname()}, started 20"):
        Detector.from_run(tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match=f"in use by process {process.pid}"):
        Detector.from_pretrained(start, device="cpu").train(coco_folder, tmp_path / "run")
    process.kill()
    process.communicate()
    assert hidden(tmp_path / "run")
    with pytest.raises(InputError, match="nothing to resume"):
        Detector.from_run(tmp_path / "run", device="cpu")
    with run_folder(tmp_path / "run", resume=False, overwrite=False):
        assert not hidden(tmp_path / "run")  # before the space on the disk is checked
    capsys.readouterr()
    Detector.from_pretrained(start, device="cpu").train(coco_folder, tmp_path / "run")
    assert "The first save of a run" in capsys.readouterr().err
    assert not hidden(tmp_path / "run")


@pytest.mark.slow
def test_a_run_killed_at_any_moment_can_be_started_or_resumed(start: Path, coco_folder: Path, tmp_path: Path) -> None:
    """ANCHORDETR_KILLS says how often."""
    dice = random.Random(0)
    for number in range(_KILLS):
        folder = tmp_path / f"run{number}"
        process = train(start, coco_folder, folder, seconds_of_a_save=0.001)
        wait_for_save(process)
        time.sleep(dice.random() * 0.2)
        process.kill()
        process.communicate()
        is_resumed = holds_state(folder / "last")
        detector = (
            Detector.from_run(folder, device="cpu") if is_resumed else Detector.from_pretrained(start, device="cpu")
        )
        detector.train(coco_folder, folder, resume=is_resumed)
        assert not hidden(folder)
        if number:
            assert_same_runs(tmp_path / "run0", folder)


@pytest.mark.slow
def test_of_two_runs_started_together_one_goes_on(start: Path, coco_folder: Path, tmp_path: Path) -> None:
    pair = [train(start, coco_folder, tmp_path / "run") for _ in range(2)]
    errors = [process.communicate(timeout=100)[1] for process in pair]
    assert sorted(process.returncode for process in pair) == [0, 1]
    first, second = sorted(range(2), key=lambda index: pair[index].returncode)
    assert f"in use by process {pair[first].pid} on" in errors[second] or "already holds a run" in errors[second]
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 1


def test_a_whole_state_alone_is_a_run(start: Path, coco_folder: Path, tmp_path: Path) -> None:
    Detector.from_pretrained(start, device="cpu").train(coco_folder, tmp_path / "whole")
    (tmp_path / "parts" / "last").mkdir(parents=True)
    os.link(tmp_path / "whole" / "last" / PREVIOUS_STATE_FILE, tmp_path / "parts" / "last" / STATE_FILE)
    with pytest.raises(InputError, match="already holds a run"):
        Detector.from_pretrained(start, device="cpu").train(coco_folder, tmp_path / "parts")
    Detector.from_run(tmp_path / "parts", device="cpu").train(coco_folder, tmp_path / "parts", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_models_without_a_state_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model.safetensors").touch()
    with (
        pytest.raises(InputError, match=r"best/model\.safetensors of a run that cannot be resumed"),
        run_folder(tmp_path, resume=False, overwrite=False),
    ):
        pass


def test_replacing_a_run_forgets_its_states(start: Path, coco_folder: Path, tmp_path: Path) -> None:
    Detector.from_pretrained(start, device="cpu").train(coco_folder, tmp_path)
    with run_folder(tmp_path, resume=False, overwrite=True):
        assert not holds_state(tmp_path / "last")


def test_a_lock_is_free_when_its_process_is_dead_whatever_its_file_says(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"process": os.getppid(), "host": "elsewhere", "started": "now"}))
    with run_folder(tmp_path, resume=False, overwrite=False):
        pass


def test_a_worker_that_outlives_its_run_does_not_hold_the_lock(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from anchordetr.locks import Lock\n"
        "lock = Lock(Path(sys.argv[1]))\n"
        "assert lock.acquire()\n"
        "if os.fork() == 0:\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "    os._exit(0)\n"
        "sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        lock = Lock(tmp_path / ".lock")
        assert not lock.acquire()
        process.kill()
        process.wait()
        assert lock.acquire()
        lock.release()
        os.kill(worker, signal.SIGKILL)


def test_of_many_that_want_a_folder_one_gets_it(tmp_path: Path) -> None:
    barrier, refused, entered = threading.Barrier(8), [], []

    def enter() -> None:
        barrier.wait()
        try:
            with run_folder(tmp_path, resume=False, overwrite=False):
                entered.append(1)
                barrier.wait()
        except InputError as error:
            refused.append(str(error))
            barrier.wait()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) == 1
    assert all(f"in use by process {os.getpid()} on" in message for message in refused)


def test_a_file_system_without_locks_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("anchordetr.locks.fcntl.flock", refuse)
    with run_folder(tmp_path, resume=False, overwrite=False):
        pass
    assert "cannot be locked (Operation not supported)" in caplog.text


def test_the_state_names_what_a_detector_needs(start: Path, coco_folder: Path, tmp_path: Path) -> None:
    Detector.from_pretrained(start, device="cpu").train(coco_folder, tmp_path)
    state = load_state(tmp_path / "last")
    assert state["class_names"] == ["circle", "rectangle", "triangle"]
    assert state["category_ids"] == [3, 7, 20]
    resumed = Detector.from_run(tmp_path, device="cpu", settings={"train.epochs": 2})
    assert (resumed.class_names, resumed.config.train.epochs) == (state["class_names"], 2)

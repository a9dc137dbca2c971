"""Callbacks: what they are told and when, and that a failing one loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from training_runs import assert_same_runs

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.errors import InputError, Stopped, UsageError
from anchordetr.training.callbacks import Callback, Callbacks, StepEnd, TrainingStart


class Recorder(Callback):
    """Keeps every call; raises in ``fails_in`` at its first call."""

    def __init__(self, fails_in: str = "") -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fails_in = fails_in

    def on_train_start(self, start: TrainingStart) -> None:
        self.note("start", start)

    def on_step(self, step: StepEnd) -> None:
        self.note("step", step)

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        self.note("epoch", entry)

    def on_train_end(self, error: BaseException | None) -> None:
        self.note("end", error)

    def note(self, name: str, argument: Any) -> None:
        self.calls.append((name, argument))
        if name == self.fails_in:
            self.fails_in = ""
            raise LookupError("mine")

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.calls]

    def arguments(self, name: str) -> list[Any]:
        return [argument for called, argument in self.calls if called == name]


def train(config: Config, data: Path, output: Path, *callbacks: Callback, resume: bool = False) -> None:
    Detector(config, device="cpu").train(data, output, resume=resume, callbacks=callbacks)


@pytest.fixture
def config(small_config: Config) -> Config:
    """Two epochs of two steps; the second one is evaluated."""
    return small_config.updated({"train.epochs": 2, "train.eval_every": 2})


def test_the_order_and_the_arguments_of_the_calls(config: Config, coco_folder: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    train(config, coco_folder, tmp_path, recorder)
    assert recorder.order == ["start", *["step", "step", "epoch"] * 2, "end"]
    (start,) = recorder.arguments("start")
    assert (start.folder, start.epochs, start.steps_per_epoch, start.steps_done) == (tmp_path, 2, 2, 0)
    steps = recorder.arguments("step")
    assert [(step.epoch, step.global_step) for step in steps] == [(1, 0), (1, 1), (2, 2), (2, 3)]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert recorder.arguments("epoch") == log
    assert steps[-1].lr == log[-1]["lr"]
    for name in ("total", "class", "box", "giou"):
        assert (steps[0].losses[name] + steps[1].losses[name]) / 2 == log[0][f"loss_{name}"]
    assert "ap" not in log[0]
    assert "ap" in log[1]
    assert recorder.arguments("end") == [None]


def test_an_epoch_is_saved_before_it_is_told(config: Config, coco_folder: Path, tmp_path: Path) -> None:
    saved: list[list[str]] = []

    class ReadsLog(Callback):
        def on_epoch(self, entry: Mapping[str, Any]) -> None:
            saved.append((tmp_path / "log.jsonl").read_text().splitlines())
            dict.__setitem__(entry, "mine", 1)  # type: ignore[arg-type]

    train(config, coco_folder, tmp_path, ReadsLog())
    assert [len(lines) for lines in saved] == [1, 2]
    assert "mine" not in saved[1][0]  # a callback that changes its entry changes no log


@pytest.mark.parametrize("wrong", [Recorder, [Recorder], Recorder(), "Recorder", [print]])
def test_what_is_no_list_of_callbacks_is_refused(wrong: Any, config: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="callbacks must be a list of objects"):
        Detector(config, device="cpu").train("missing", tmp_path, callbacks=wrong)


def test_methods_that_are_left_out_do_nothing(config: Config, coco_folder: Path, tmp_path: Path) -> None:
    class CountsEpochs(Callback):
        epochs = 0

        def on_epoch(self, entry: Mapping[str, Any]) -> None:
            self.epochs += 1

    callback = CountsEpochs()
    train(config, coco_folder, tmp_path, callback)
    assert callback.epochs == 2


def test_a_stopped_run_tells_so_and_a_resumed_one_where_it_begins(
    config: Config, coco_folder: Path, tmp_path: Path
) -> None:
    class StopsAfterThree(Recorder):
        def on_step(self, step: StepEnd) -> None:
            super().on_step(step)
            if step.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    first, second = StopsAfterThree(), Recorder()
    with pytest.raises(Stopped):
        train(config, coco_folder, tmp_path, first)
    assert first.order == ["start", "step", "step", "epoch", "step", "end"]
    assert isinstance(first.arguments("end")[0], Stopped)
    train(config, coco_folder, tmp_path, second, resume=True)
    assert second.order == ["start", "step", "epoch", "end"]
    assert second.arguments("start")[0].steps_done == 3
    assert second.arguments("step")[0].global_step == 3


@pytest.mark.parametrize(
    ("fails_in", "steps_done"), [("start", 0), ("step", 1), ("epoch", 2), ("end", 4)], ids=lambda value: str(value)
)
def test_a_failing_callback_loses_nothing(
    fails_in: str, steps_done: int, config: Config, coco_folder: Path, tmp_path: Path
) -> None:
    failing, other, resumed = Recorder(fails_in), Recorder(), Recorder()
    with pytest.raises(LookupError, match="mine") as caught:
        train(config, coco_folder, tmp_path / "failed", failing, other)
    assert "saved" in " ".join(caught.value.__notes__)
    assert failing.order == other.order  # the others are told alike, up to the end
    assert other.order[-1] == "end"
    if fails_in != "end":
        assert other.arguments("end") == [caught.value]
    train(config, coco_folder, tmp_path / "failed", resumed, resume=True)
    assert resumed.arguments("start")[0].steps_done == steps_done
    train(config, coco_folder, tmp_path / "whole")
    assert_same_runs(tmp_path / "failed", tmp_path / "whole")


def test_a_callback_that_fails_after_the_last_epoch_is_heard(config: Config, coco_folder: Path, tmp_path: Path) -> None:
    other = Recorder()
    with pytest.raises(LookupError) as caught:
        train(config.updated({"train.epochs": 1}), coco_folder, tmp_path, Recorder("epoch"), other)
    assert other.arguments("end") == [caught.value]
    assert (tmp_path / "best" / "model.safetensors").exists()


def test_the_first_error_counts_and_what_ended_the_training_comes_first() -> None:
    start = TrainingStart(Path(), None, 1, 1, 0)  # type: ignore[arg-type]
    callbacks = Callbacks([Recorder("step"), Recorder("end")])
    with pytest.raises(InputError, match="no memory"), callbacks.during(start):
        raise InputError("no memory")
    callbacks = Callbacks([Recorder("step"), Recorder("end")])
    callbacks.on_step(StepEnd(1, 0, {}, 0.1))
    first = callbacks.error
    callbacks.on_train_end(None)
    assert first is callbacks.error is not None


def test_the_example_of_the_documentation_works(
    config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    block = page.partition("## Callbacks")[2].partition("```python\n")[2].partition("```")[0]
    classes, separator, _ = block.partition("\ndetector = ")
    assert separator
    names: dict[str, Any] = {}
    exec(classes, names)
    with pytest.raises(names["GoodEnough"], match="after 2 epochs"):
        train(config.updated({"train.epochs": 9}), coco_folder, tmp_path, names["StopAtAP"](0.0))
    shown = capsys.readouterr().out
    assert f"9 epochs of 2 steps, 0 steps done, into {tmp_path}" in shown
    assert "ended by GoodEnough" in shown


@pytest.mark.parametrize("fails_in", ["", "step"])
def test_only_the_main_process_calls_them_and_all_processes_end(
    fails_in: str, config: Config, coco_folder: Path, tmp_path: Path
) -> None:
    settings = {"model.freeze_batch_norm": True, "train.epochs": 1}
    classes = ["circle", "rectangle", "triangle"]
    Detector(config.updated(settings), classes, device="cpu").save_pretrained(tmp_path / "start")
    script = tmp_path / "train.py"
    script.write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from anchordetr import Detector\n"
        "from anchordetr.training.callbacks import Callback\n"
        "class Writes(Callback):\n"
        "    def on_step(self, step):\n"
        f"        with Path({str(tmp_path / 'calls')!r}).open('a') as file:\n"
        "            file.write(os.environ['RANK'])\n"
        f"        if {fails_in!r}:\n"
        "            raise LookupError('mine')\n"
        f"detector = Detector.from_pretrained({str(tmp_path / 'start')!r}, device='cpu')\n"
        f"detector.train({str(coco_folder)!r}, {str(tmp_path / 'run')!r}, callbacks=[Writes()])\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert (done.returncode == 0) == (fails_in == ""), done.stderr
    assert (tmp_path / "calls").read_text() == ("0" if fails_in else "00")
    if fails_in:
        assert "LookupError: mine" in done.stderr
    assert (tmp_path / "run" / "last" / "training_state.pt").exists()


def test_a_display_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """For rich, a terminal that is gone is a reason to exit."""

    class Gone(Recorder):
        def on_step(self, step: StepEnd) -> None:
            super().on_step(step)
            raise SystemExit(1)

    display, other, user = Gone(), Recorder("step"), Recorder()
    callbacks = Callbacks([user], [display, other])
    for _ in range(2):
        callbacks.on_step(StepEnd(1, 0, {}, 0.1))
    assert callbacks.error is None
    assert (len(display.calls), len(other.calls), len(user.calls)) == (1, 1, 2)
    assert "Gone failed, and training goes on without it" in caplog.text

"""The progress of training on a terminal and in a pipe, and how its end is told."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.training import display
from anchordetr.training.callbacks import EvaluationStep, StepEnd, TrainingStart
from anchordetr.training.display import ProgressDisplay

LOSSES = {"total": 123.4567, "class": 0.1234, "box": 0.2345, "giou": 0.3456}
START = TrainingStart(Path(), None, 300, 1000, 0)  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the display sees; tests change it."""
    now = [0.0]
    monkeypatch.setattr(display, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("width", "shows"),
    [
        (80, "124001/300000  42 min left  loss 123.457"),
        (100, "124001/300000  42 min left  loss 123.457"),
        (120, "124001/300000  42 min left  loss 123.457  class 0.123  box 0.234  giou 0.346"),
        (200, "class 0.123  box 0.234  giou 0.346  lr 1.0e-04  1.5 GiB"),
    ],
)
def test_a_terminal_shows_what_fits(
    width: int, shows: str, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "peak_memory", lambda: 3 * 2**29)
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=width, color_system=None, _environ={"TERM": "xterm"})
    monkeypatch.setattr(display, "Console", lambda stderr: terminal)
    shown = ProgressDisplay()
    shown.on_train_start(START)
    clock[0] = 1777.0
    shown.on_step(StepEnd(125, 124_000, LOSSES, 1e-4))
    shown.on_train_end(None)
    *_, line = (part for part in re.split(r"[\r\n]|\x1b\[[0-9;?]*[a-zA-Z]", stream.getvalue()) if part.strip())
    assert line.startswith("epoch 125/300 ━")
    assert line.rstrip().endswith(shows)
    assert len(line) <= width


def test_a_pipe_gets_a_line_each_tenth_of_an_epoch_or_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ProgressDisplay()
    shown.on_train_start(TrainingStart(Path(), None, 12, 20, 0))  # type: ignore[arg-type]
    for step, seconds in enumerate([3, 6, 9, 12, 15, 75, 80, 140]):
        clock[0] = seconds
        shown.on_step(StepEnd(1, step, LOSSES, 1e-4))
    shown.on_evaluation_step(EvaluationStep(1, 0, 3))
    clock[0] = 200
    shown.on_evaluation_step(EvaluationStep(1, 1, 3))
    shown.on_epoch({"epoch": 1, "loss_total": 9.0, "ap": 0.1, "ap50": 0.2, "ap75": 0.3})
    shown.on_train_end(None)
    assert capsys.readouterr().err.splitlines() == [
        "epoch  1/12  2/240  12 min left  loss 123.457",
        "epoch  1/12  4/240  12 min left  loss 123.457",
        "epoch  1/12  6/240  49 min left  loss 123.457",
        "epoch  1/12  8/240  1 h 8 min left  loss 123.457",
        "epoch  1/12  evaluating, batch 2 of 3",
        "epoch  1/12  loss 9.000  AP 0.100  AP50 0.200  AP75 0.300",
    ]


def test_the_time_left_is_that_of_the_steps_since_the_start(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ProgressDisplay()
    shown.on_train_start(TrainingStart(Path(), None, 10, 10, 90))  # type: ignore[arg-type]
    clock[0] = 100.0
    shown.on_step(StepEnd(10, 90, LOSSES, 1e-4))
    assert "91/100  15 min left" in capsys.readouterr().err


def test_the_end_says_where_things_lie_and_why_it_ended(
    small_config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config.updated({"train.early_stopping_patience": 2, "train.lr": 1e-12, "train.backbone_lr": 0.0})
    metrics = Detector(config, device="cpu").train(coco_folder, tmp_path, epochs=9)
    told = capsys.readouterr().err
    assert "Training ended after 3 epochs and " in told
    assert ": no better AP in 2 evaluations (early stopping)." in told
    assert f"Best epoch: 1, AP {metrics.ap:.3f}, AP50 {metrics.ap50:.3f}; " in told
    assert f"Model: {tmp_path}/best. Report: {tmp_path}/report.md." in told
    Detector.from_run(tmp_path, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=3)
    assert "Training ended after 3 epochs and " in (again := capsys.readouterr().err)
    assert "all 3 epochs are trained" in again

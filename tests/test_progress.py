"""Progress on a terminal and in a pipe."""

from __future__ import annotations

import io
import sys

import pytest

from anchordetr import progress as module
from anchordetr.progress import duration, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def lines_of(
    steps: list[tuple[float, int]], total: int, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> list[str]:
    with progress("eval", total) as advance:
        for seconds, count in steps:
            clock[0] += seconds
            advance(count)
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_a_short_command_prints_nothing_in_a_pipe(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of([(1.0, 1)] * 50, 50, clock, capsys) == []


def test_a_line_a_minute_in_a_pipe(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of([(10.0, 1)] * 20, 20, clock, capsys) == [
        "eval: 6 of 20, 2 min left",
        "eval: 12 of 20, 80 s left",
        "eval: 18 of 20, 20 s left",
    ]


def test_a_line_a_tenth_in_a_long_command(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of([(60.0, 1)] * 1000, 1000, clock, capsys)
    assert lines[0] == "eval: 100 of 1000, 15.0 h left"
    assert len(lines) == 9


def test_nothing_is_shown_if_not_wanted(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("eval", 3, shown=False) as advance:
        clock[0] += 1e6
        advance(2)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    terminal, output = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", output)
    with progress("predict", 4) as advance:
        for _ in range(4):
            advance(1)
            print("a result")
    shown = terminal.getvalue()
    assert "predict" in shown
    assert "4/4" in shown
    assert output.getvalue() == "a result\n" * 4  # stays where it was redirected to


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

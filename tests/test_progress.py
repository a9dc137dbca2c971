"""Progress on a terminal and in a pipe."""

from __future__ import annotations

import io
import sys

import pytest

from anchordetr import progress as module
from anchordetr.console import duration
from anchordetr.progress import progress


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
    assert lines_of([(0.1, 1)] * 50, 50, clock, capsys) == []


def test_a_line_a_tenth_in_a_pipe(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of([(10.0, 1)] * 20, 20, clock, capsys)
    assert lines[:2] == ["eval: 2 of 20, 3 min left", "eval: 4 of 20, 3 min left"]
    assert len(lines) == 9
    assert len(lines_of([(1.0, 1)] * 20, 20, clock, capsys)) == 3  # five seconds apart


def test_a_line_a_minute_in_a_long_command(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of([(30.0, 1)] * 1000, 1000, clock, capsys)
    assert lines[0] == "eval: 2 of 1000, 8 h 19 min left"
    assert len(lines) == 499


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
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (5399, "1 h 30 min"), (200_000, "2 d 7 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

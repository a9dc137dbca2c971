"""Closed and full streams, names with control characters: what a command prints and how it exits."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import call

COMMAND = [sys.executable, "-m", "anchordetr"]
PRESET = ["config", "anchordetr_r50_c5"]


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = " ".join(COMMAND)
    return subprocess.run(
        ["bash", "-c", line.replace("anchordetr", command, 1)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("anchordetr --version >&-", 0),
        ("anchordetr nothing 2>&-", 2),
        ("anchordetr nothing >&- 2>&-", 2),
        ("anchordetr --version > >(exec true); wait", 0),
        ("anchordetr nothing 2> /dev/full", 2),
    ],
)
def test_a_stream_that_nobody_reads_does_not_change_the_exit_code(line: str, code: int) -> None:
    result = shell(f"set -o pipefail; {line}")
    assert (result.returncode, result.stdout, result.stderr) == (code, "", "")


def test_a_command_goes_on_after_its_reader_has_gone(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from anchordetr.cli.streams import protected_streams\n"
        "with protected_streams():\n"
        "    for number in range(20000): print(number)\n"
        f"    Path({str(tmp_path / 'done')!r}).touch()\n"
    )
    result = shell(f"set -o pipefail; {sys.executable} {program} | head -1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named_at_the_end() -> None:
    result = shell("anchordetr --version > /dev/full")
    assert result.returncode == 1
    assert result.stderr == "anchordetr: stdout could not be written: No space left on device.\n"


@pytest.mark.parametrize(
    "environment",
    [{"COLUMNS": "10"}, {"COLUMNS": "x"}, {"COLUMNS": "0"}, {"COLUMNS": "-5"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}],
    ids=str,
)
def test_any_terminal_will_do(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert call("list-models") == 0
    assert capsys.readouterr().err == ""


def test_output_can_be_unbuffered() -> None:
    result = shell("anchordetr --version", PYTHONUNBUFFERED="1")
    assert (result.returncode, result.stderr, result.stdout[:11]) == (0, "", "anchordetr ")


def test_an_error_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("config", "a\x1b[2J\nb\udcff[/bold]") == 2
    error = capsys.readouterr().err
    assert "'a\\x1b[2J b\\udcff[/bold]'" in error
    assert error.count("\n") == 1


def test_warnings_are_one_line_without_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(*_: object) -> None:
        logging.getLogger("anchordetr").warning("classes %s", "a\nb\x1b[2J")

    monkeypatch.setattr("anchordetr.models.presets.preset", warn)
    call(*PRESET)
    assert capsys.readouterr().err.startswith("classes a\\nb\\x1b[2J\n")
    assert logging.getLogger("anchordetr").handlers == []


def test_an_error_of_the_system_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("config", "a" * 300) == 1
    assert capsys.readouterr().err == f"anchordetr: {'a' * 300}: File name too long.\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_debug_step_reads_regular_files_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert call("debug-step", tmp_path / "pipe") == 1
    assert "named pipe" in capsys.readouterr().err

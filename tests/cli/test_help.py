"""The help of every command, its groups and example; what is suggested for unknown options and commands."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from commands import call

from anchordetr.cli.main import _command

COMMANDS = sorted(_command().commands)


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example(
    name: str, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    pages = []
    for option in ("-h", "--help"):
        assert call(name, option) == 0
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1]
    assert all(len(line) <= int(columns) for line in pages[0].splitlines())
    assert name == "benchmark" or f"Example: anchordetr {name}" in " ".join(pages[0].split())


def test_the_main_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("-h") == 0
    shown = capsys.readouterr().out
    assert all(f"│ {name} " in shown for name in COMMANDS)
    assert all(option in shown for option in ("--version", "--debug", "--install-completion"))


def test_square_brackets_are_not_eaten(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from anchordetr.cli import main

    command = _command().commands["train"]
    assert "[" not in "".join(parameter.help or "" for parameter in command.params)
    monkeypatch.setattr(main.app.registered_commands[0], "help", "Give [bold] or [a, b].")
    assert call("train", "-h") == 0
    assert "Give [bold] or [a, b]." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --epoch 3", "Did you mean --epochs?"),
        ("train --img-size 640", "Did you mean --resolution?"),
        ("train --imgsz 640", "Did you mean --resolution?"),
        ("train --output x", "Did you mean --output-dir?"),
        ("train --bs 4", "Did you mean --batch-size?"),
        ("train --gpu 0", "Did you mean --device?"),
        ("train --flips x", "Did you mean --set data.flips=...?"),
        ("train --conf 0.2", "Did you mean --threshold of predict?"),
        ("predict x --conf 0.2", "Did you mean --threshold?"),
        ("predict x --iou 0.2", "there is no NMS."),
        ("eval --wieghts x", "Did you mean --weights?"),
    ],
)
def test_an_unknown_option_names_the_right_one(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments.split()) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("replay", "The command 'replay' is now called 'debug-step'; use this name."),
        ("trian", "No such command 'trian'. Did you mean 'train'?"),
        ("val", "No such command 'val'. Did you mean 'eval'?"),
        ("qqq", "No such command 'qqq'. Known: "),
    ],
)
def test_an_unknown_command_names_the_right_one(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "bad_step.pt") == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("'") <= 4


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_no_help_loads_torch(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before: dict[str, Any] = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torch"}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("sys.meta_path", [_NoTorch(), *sys.meta_path])
    assert call(*arguments) == 0


class _NoTorch:
    """Refuses to import torch."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        assert name.split(".")[0] != "torch"


def test_completion_is_answered() -> None:
    environment = {
        **os.environ,
        "_ANCHORDETR_COMPLETE": "complete_bash",
        "COMP_WORDS": "anchordetr tr",
        "COMP_CWORD": "1",
    }
    command = [sys.executable, "-c", "from anchordetr.cli.main import run; run()"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.stdout.split() == ["train"], shown.stderr

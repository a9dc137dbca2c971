"""Values of options: strict numbers, sizes within bounds, no empty values."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import call

from anchordetr.cli import options
from anchordetr.cli.options import parse_numbers, parse_patterns, parse_size, require_values, with_optional_values
from anchordetr.errors import UsageError


@pytest.mark.parametrize(
    "size",
    ["²x²", "٣x٣", "800", "800x", "x", "0x5", "-1x5", "6x6x6", "1.5x2", "9" * 5000 + "x1", "32769x1", " 8x8", "1_0x1"],
)
def test_a_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        parse_size(size)


def test_sizes() -> None:
    assert parse_size("800x1333") == (800, 1333)
    assert parse_size("1X32768") == (1, 32768)


@pytest.mark.parametrize("text", ["²", "٣", "1,,2", "-1", "1.0", "", ",", "9" * 5000, "nan"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--anchors"):
        parse_numbers("--anchors", text)
    with pytest.raises(UsageError, match="--patterns"):
        parse_patterns(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "--split", ""], "--split has an empty value"),
        (["eval", "--data="], "--data has an empty value"),
        (["predict", "", "--weights", "x"], "An argument is empty"),
        (["train", "--output-dir", "  "], "--output-dir has an empty value"),
    ],
)
def test_empty_values_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments) == 2
    assert words in capsys.readouterr().err


def test_given_values_pass() -> None:
    require_values(["train", "--set", "train.lr=", "--json", "x=", "--seed=1"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", 2**64],
        ["--seed", -1],
        ["--lr", "nan"],
        ["--lr", "inf"],
        ["--epochs", 0],
        ["--batch-size", 10**12],
        ["--workers", -1],
        ["--set", "train.lr=: :"],
        ["--set", "data.train_short_sides=[]"],
    ],
    ids=str,
)
def test_numbers_out_of_bounds_are_one_line(
    arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train", "--data", "none", "--output-dir", tmp_path / "run", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("anchordetr: Configuration key '")
    assert error.count("\n") == 1


def test_a_chart_or_a_file_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert call("profile-memory", "--plot", tmp_path / "page.xyz") == 2
    assert "png, svg, pdf" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert call("benchmark", "rcda", "--output", tmp_path / "file" / "out.json") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert call("benchmark", "rcda", "--output", tmp_path) == 1
    assert "is a folder" in capsys.readouterr().err


def test_a_key_that_is_given_twice_is_refused() -> None:
    assert options.changes(None, None, ["epochs=5"], {"train.epochs": 5}) == {"train.epochs": 5}
    with pytest.raises(UsageError, match=r"data\.resolution is given twice, 96 and --set data\.resolution=128"):
        options.changes(None, None, ["resolution=128"], {"data.resolution": 96})


def test_the_page_of_augmentations_has_a_default_file() -> None:
    page = "runs/doctor/augmentations.png"
    assert with_optional_values(["doctor", "x", "--augmentations"]) == ["doctor", "x", "--augmentations", page]
    assert with_optional_values([]) == []
    assert with_optional_values(["--augmentations", "--json"]) == ["--augmentations", page, "--json"]
    assert with_optional_values(["--augmentations", "a.png", "x"]) == ["--augmentations", "a.png", "x"]

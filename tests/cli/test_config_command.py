"""``anchordetr config`` and ``--help-settings``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from commands import call

from anchordetr import Detector, list_models
from anchordetr.config import Config, ModelConfig, read_config_file
from anchordetr.config.table import section_titles, settings_page, settings_table
from anchordetr.config.training import Precision
from anchordetr.models.presets import preset, recipe


def printed_config(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> dict[str, object]:
    """Return what the command prints, as ``--config`` reads it."""
    assert call("config", *arguments) == 0
    file = folder / "printed.yaml"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    return read_config_file(file)


@pytest.mark.parametrize("name", list_models())
def test_the_printed_preset_is_taken_back(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = preset(name)
    for options in ([], ["--json"]):
        assert expected.updated(printed_config(capsys, tmp_path, name, *options)) == expected
        assert Config().updated(printed_config(capsys, tmp_path, name, *options, "--changes-only")) == expected


def test_options_change_what_is_printed_as_they_change_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "changes.yaml").write_text("train:\n  epochs: 7\n  lr: 0.5\n")
    options = ["--recipe", "finetune", "--config", tmp_path / "changes.yaml", "--set", "train.lr=1e-5"]
    printed = Config().updated(printed_config(capsys, tmp_path, "anchordetr_tiny", *options))
    expected = recipe("finetune") | {"train.epochs": 7, "train.lr": 1e-5}
    assert printed == preset("anchordetr_tiny").updated(expected)


def test_only_changes_are_printed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("config", "anchordetr_r50_dc5", "--changes-only", "--json", "--set", "train.seed=3") == 0
    assert json.loads(capsys.readouterr().out) == {"model": {"features": "dc5"}, "train": {"seed": 3}}


def test_the_configuration_of_a_saved_model_is_printed(
    small_model: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(model=small_model)
    Detector(config, device="cpu").save_pretrained(tmp_path / "saved")
    assert Config().updated(printed_config(capsys, tmp_path, tmp_path / "saved")) == config


@pytest.mark.parametrize("command", ["train", "config"])
def test_all_settings_are_shown(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert call(command, "--help-settings") == 0
    shown = capsys.readouterr().out
    words = {word for line in shown.splitlines() for word in line.split()}
    for section in section_titles():
        assert {setting.key for setting in settings_table(section)} <= words
    assert "anchordetr[tensorboard]" in shown
    assert "`" not in shown


def test_the_help_of_train_names_every_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--help") == 0
    shown = capsys.readouterr().out
    assert all(precision in shown for precision in get_args(Precision))


def test_the_page_of_settings_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("config", "--markdown") == 0
    assert capsys.readouterr().out == settings_page()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["anchordetr_tny"], 2, "'anchordetr_tiny'"),
        (["anchordetr_tiny", "--set", "model.start=local"], 2, "'model.init'"),
        (["anchordetr_tiny", "--set", "model.anchors=none"], 2, "model.queries=embeddings"),
        (["anchordetr_tiny", "--recipe", "fine"], 2, "'finetune'"),
        (["anchordetr_tiny", "--config", "none.yaml"], 1, "none.yaml"),
        (["."], 1, "not a saved model"),
        ([], 2, "Missing argument"),
    ],
    ids=lambda value: "-".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_a_mistake_prints_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("config", *arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in " ".join(printed.err.split())

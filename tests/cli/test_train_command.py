"""The options of ``anchordetr train``: its folders, what a run knows, saved configurations, parts of users."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from commands import call
from saved_models import smallest_config

from anchordetr import Detector
from anchordetr.cli.main import app
from anchordetr.config import to_yaml
from anchordetr.training.state import STATE_FILE

PLUGIN = """
import torch
from torch import nn
from anchordetr.registry import ANCHORS

@ANCHORS.register("{name}")
class Anchors(nn.Module):
    def __init__(self, num_anchors):
        super().__init__()
        self.points = nn.Parameter(torch.linspace(0.1, 0.9, num_anchors).repeat(2, 1).T.contiguous())

    def forward(self):
        return self.points
"""


@pytest.fixture
def place(tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a data set ``pets`` and the settings of the smallest network."""
    shutil.copytree(coco_folder, tmp_path / "pets")
    config = smallest_config(3).updated({"epochs": 1, "batch_size": 4, "workers": 0, "resolution": 32})
    (tmp_path / "small.yaml").write_text(to_yaml(config.model_dump(mode="json")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*arguments: object) -> int:
    return call("train", "--data", "pets", "--config", "small.yaml", "--device", "cpu", *arguments)


def saved(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "best" / "config.json").read_text())
    return values


def test_runs_without_a_folder_get_the_next_free_one_and_the_newest_is_resumed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("runs/train", "runs/train-2"):
        assert train() == 0
        assert f"Output folder: {name}\n" in capsys.readouterr().err
    (place / "elsewhere").mkdir()
    assert call("train", "--resume", "--epochs", 2, "--device", "cpu") == 0
    assert "Output folder: runs/train-2\n" in capsys.readouterr().err
    lines = [len((place / f"runs/{name}/log.jsonl").read_text().splitlines()) for name in ("train", "train-2")]
    assert lines == [1, 2]


def test_resuming_needs_the_folder_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("--output-dir", "x") == 0
    before = torch.load(place / "x/last" / STATE_FILE)["data"]
    assert (before["given"], before["path"]) == ("pets", str(place / "pets"))
    (place / "other").mkdir()
    monkeypatch.chdir(place / "other")
    assert call("train", "--resume", "--output-dir", place / "x", "--epochs", 2, "--device", "cpu") == 0
    assert call("train", "--resume", place / "x", "--epochs", 3, "--device", "cpu") == 0
    assert len((place / "x/log.jsonl").read_text().splitlines()) == 3


def test_a_part_of_a_run_is_no_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output-dir", "x") == 0
    assert call("train", "--resume", "x/best", "--device", "cpu") == 1
    assert "x/best is a part of a run; name the folder of the whole run, x." in capsys.readouterr().err


def test_a_run_whose_data_set_is_gone_asks_for_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output-dir", "x") == 0
    (place / "pets").rename(place / "cats")
    assert call("train", "--resume", "x", "--epochs", 2, "--device", "cpu") == 1
    assert "The data set pets does not exist; check --data" in capsys.readouterr().err
    assert call("train", "--resume", "x", "--data", "cats", "--epochs", 2, "--device", "cpu") == 0


def test_a_state_that_names_no_data_asks_for_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output-dir", "x") == 0
    file = place / "x/last" / STATE_FILE
    for data in (None, 3, ["one"], {"path": 1, "given": 2}):
        state = torch.load(file)
        torch.save({**state, "data": data}, file)
        assert call("train", "--resume", "x", "--device", "cpu") == 2
        assert "The data set is missing; name its folder with --data." in capsys.readouterr().err


def test_options_are_settings(place: Path) -> None:
    options = ["--backbone-lr", 0.5, "--patience", 7, "--ema", 0.9, "--resolution", 64, "--save-every", 1]
    assert train("--output-dir", "x", *options) == 0
    values = saved(place / "x")
    names = ("backbone_lr", "early_stopping_patience", "ema_decay", "save_every")
    assert [values["train"][name] for name in names] == [0.5, 7, 0.9, 1]
    assert (values["data"]["resolution"], values["data"]["train_short_sides"]) == (64, [64])


def test_a_run_is_replaced_on_request_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output-dir", "x") == 0
    assert train("--output-dir", "x") == 1
    assert "resume it (--resume), replace it (--overwrite), or choose another --output-dir" in capsys.readouterr().err
    assert train("--output-dir", "x", "--overwrite", "--seed", 5) == 0
    assert saved(place / "x")["train"]["seed"] == 5


def test_the_configuration_of_a_saved_model_repeats_its_run(place: Path) -> None:
    assert train("--output-dir", "x", "--seed", 3) == 0
    again = ["train", "--data", "pets", "--config", "x/best/config.json", "--output-dir", "y", "--device", "cpu"]
    assert call(*again) == 0
    sections = ("model", "data", "loss", "train")
    assert {name: saved(place / "y")[name] for name in sections} == {
        name: saved(place / "x")[name] for name in sections
    }
    assert (place / "x/metrics.json").read_text() == (place / "y/metrics.json").read_text()


def test_an_old_saved_configuration_is_read_with_the_names_of_today(place: Path) -> None:
    values = {"format_version": 1, "class_names": ["a"], "model": {"start": "local"}, "train": {"accumulate": 2}}
    (place / "old.json").write_text(json.dumps(values))
    from anchordetr.config import read_config_file

    assert read_config_file(place / "old.json") == {"model": {"init": "local"}, "train": {"grad_accum_steps": 2}}


@pytest.mark.parametrize("name", ["my_parts_one"])
def test_parts_come_from_a_file(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / f"{name}.py").write_text(PLUGIN.format(name=name))
    chosen = ["--output-dir", "x", "--set", f"model.anchors={name}"]
    assert train(*chosen) == 2
    assert "Parts of your own are found in the file that --plugin names." in capsys.readouterr().err
    assert train(*chosen, "--plugin", f"{name}.py") == 0
    assert call("eval", "--weights", "x", "--data", "pets", "--plugin", f"{name}.py", "--device", "cpu") == 0


def test_every_command_that_builds_a_network_from_settings_or_weights_takes_plug_ins() -> None:
    def options(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
        yield name, {option for parameter in command.params for option in parameter.opts}
        for child, inner in getattr(command, "commands", {}).items():
            yield from options(inner, child)

    found = dict(options(typer.main.get_command(app), "anchordetr"))
    assert {
        name for name, given in found.items() if given & {"--set", "--weights"} and "--plugin" not in given
    } == set()
    assert "--plugin" in found["debug-step"]


def test_a_saved_model_whose_part_is_missing_names_the_way_to_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--output-dir", "x") == 0
    for name in ("best", "last"):
        values = json.loads((place / "x" / name / "config.json").read_text())
        values["model"]["anchors"] = "never_registered"
        (place / "x" / name / "config.json").write_text(json.dumps(values))
    capsys.readouterr()
    assert call("predict", "pets/val", "--weights", "x") == 2
    assert "Unknown anchors 'never_registered'" in (error := capsys.readouterr().err)
    assert "--plugin" in error


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("none.py", None, "does not exist; check its path"),
        ("parts.txt", "", "is no Python file"),
        ("broken_parts.py", "1 +", "cannot be imported: SyntaxError"),
        ("failing_parts.py", "1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("json.py", "", "has the name of the module"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_one_line(
    file: str, content: str | None, words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (place / file).write_text(content)
    assert train("--plugin", file) == 1
    assert words in (error := capsys.readouterr().err)
    assert error.count("\n") == 1


def test_the_data_set_is_looked_at_before_the_network_is_built(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(*arguments: object, **options: object) -> None:
        raise AssertionError("built")

    monkeypatch.setattr(Detector, "__init__", build)
    monkeypatch.setattr("anchordetr.weights.zoo.fetch", build)
    (place / "empty").mkdir()
    for data, words in (("none", "does not exist"), ("empty", "no known data layout")):
        for start in ([], ["--weights", "anchordetr_r50_dc5"]):
            assert call("train", "--data", data, *start) == 1
            assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing option '--data'"),
        (["pets"], "'pets' is the folder of a run for --resume; name the data set with --data."),
        (["--resume", "x", "--output-dir", "y"], "named twice, 'x' and --output-dir y; leave out one"),
        (["--resume", "--overwrite", "--output-dir", "y"], "give one of them"),
    ],
)
def test_wrong_use_is_explained(
    arguments: list[str], words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train", *arguments) == 2
    assert words in capsys.readouterr().err


def test_nothing_to_resume_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--resume") == 1
    assert "name the folder of the run with --output-dir" in capsys.readouterr().err


def test_processes_that_train_together_share_a_named_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train() == 2
    assert "name one folder for all with --output-dir" in capsys.readouterr().err


def test_python_refuses_a_folder_with_a_run_and_names_its_arguments(place: Path) -> None:
    assert train("--output-dir", "runs/train") == 0
    detector = Detector(smallest_config(3), device="cpu")
    with pytest.raises(
        ValueError, match=r"resume it \(resume=True\), replace it \(overwrite=True\), or choose another output_dir\."
    ):
        detector.train("pets")
    resumed = Detector.from_run("runs/train", "cpu")
    assert resumed.train(resume=True, epochs=2).ap >= 0
    with pytest.raises(ValueError, match="name its folder with data"):
        detector.train()

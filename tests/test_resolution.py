"""One resolution sets the three sizes of images, and contradictions are said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import call
from saved_models import edit_config, smallest_config

from anchordetr import Detector, preset
from anchordetr.config import Config, DataConfig, merged, parse_assignments, parse_config, read_config_file
from anchordetr.errors import InputError, UsageError


def sizes(config: Config) -> tuple[Any, ...]:
    data = config.data
    return data.resolution, data.short_side, data.long_side, data.train_short_sides


def test_a_resolution_sets_all_sizes() -> None:
    assert sizes(Config().updated({"data.resolution": 640})) == (640, 640, 640, (*range(384, 641, 32),))
    assert sizes(preset("anchordetr_v2_small").updated({"resolution": "320"})) == (320, 320, 320, (288, 320))
    assert sizes(preset("anchordetr_tiny").updated({"resolution": 100})) == (100, 100, 100, (100,))
    assert DataConfig(resolution=640) == Config().updated({"data.resolution": 640}).data


def test_a_second_resolution_keeps_the_ratio_of_the_training_sizes() -> None:
    assert sizes(Config().updated({"resolution": 640}).updated({"resolution": 320}))[3] == (192, 224, 256, 288, 320)


@pytest.mark.parametrize("key", ["short_side", "long_side", "train_short_sides"])
def test_a_size_alone_ends_the_resolution(key: str) -> None:
    value: Any = [320] if key == "train_short_sides" else 320
    changed = Config().updated({"resolution": 640}).updated({f"data.{key}": value})
    assert changed.data.resolution is None
    assert changed.data.long_side == (320 if key == "long_side" else 640)


def test_sizes_that_do_not_contradict_stay_as_given() -> None:
    given = Config().updated({"resolution": 640, "train_short_sides": [480, 640]})
    assert sizes(given) == (640, 640, 640, (480, 640))


@pytest.mark.parametrize(("key", "value"), [("short_side", 480), ("long_side", 800), ("train_short_sides", [640, 704])])
def test_contradictions_name_both(key: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "changes.yaml"
    file.write_text(f"data: {{resolution: 640, {key}: {value}}}")
    for changes in ({"resolution": 640, key: value}, read_config_file(file)):
        with pytest.raises(UsageError, match=rf"data\.resolution=640 contradicts data\.{key}="):
            Config().updated(changes)
    with pytest.raises(UsageError, match="contradicts"):
        parse_config({"data": {**Config().updated({"resolution": 640}).data.model_dump(), key: value}})


def test_a_saved_configuration_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    Detector(smallest_config(2).updated({"resolution": 64}), device="cpu").save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    edit_config(tmp_path, data={**values["data"], "short_side": 48})
    with pytest.raises(InputError, match=r"config\.json.*data\.resolution=64 contradicts data\.short_side=48"):
        Detector.from_pretrained(tmp_path)


@pytest.mark.parametrize("value", [0, -3, "big", 10**5000, 1.5, 40_000], ids=lambda value: str(type(value)))
def test_what_is_no_resolution_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"'data\.resolution'"):
        Config().updated({"resolution": value})


def test_a_later_resolution_overrides_the_sizes_of_a_file() -> None:
    complete = Config().model_dump()
    assert sizes(Config().updated(merged(complete, {"data.resolution": 640}))) == (
        640,
        640,
        640,
        (*range(384, 641, 32),),
    )
    complete["data"] |= {"short_side": 400, "train_short_sides": [400]}
    assert sizes(Config().updated(merged(complete, {"data.resolution": 640}))) == (640, 640, 640, (640,))
    assert merged({"data.short_side": "x"}, {"resolution": 640}) == {"data.resolution": 640}
    kept = merged({"resolution": 640}, {"train.lr": 1.0})
    assert kept == {"data.resolution": 640, "train.lr": 1.0}


def test_a_loaded_model_gets_another_resolution(tmp_path: Path) -> None:
    Detector(smallest_config(2), device="cpu").save_pretrained(tmp_path)
    detector = Detector.from_pretrained(tmp_path, "cpu", settings={"data.resolution": 96})
    assert sizes(detector.config) == (96, 96, 96, (96,))
    assert "images up to 96x96" in repr(detector)


def test_the_option_of_train_and_an_assignment_contradict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--data", "shapes", "--output-dir", tmp_path / "run", "--resolution", 640]
    assert call(*arguments, "--set", "short_side=480") == 2
    assert "data.resolution=640 contradicts data.short_side=480" in capsys.readouterr().err


def test_assignments_may_name_a_key_alone() -> None:
    assert parse_assignments(["resolution=640", "flips=[vertical]"]) == {
        "data.resolution": 640,
        "data.flips": ["vertical"],
    }

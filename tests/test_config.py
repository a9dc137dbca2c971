"""The configuration: what it refuses, how it is changed, upgraded, written and described."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from anchordetr.config import (
    RENAMED,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
    parse_assignments,
    parse_config,
    read_config_file,
    to_yaml,
    upgrade,
)
from anchordetr.config.table import REWRITE_COMMAND, SETTINGS_PAGE, section_titles, settings_page, settings_table
from anchordetr.config.training import Precision
from anchordetr.device import PRECISIONS
from anchordetr.errors import InputError, UsageError
from anchordetr.models.presets import PRESETS, preset
from anchordetr.registry import ANCHORS, ATTENTIONS, DATA_LAYOUTS, POSITION_ENCODERS, QUERY_SOURCES, Registry

ROOT = Path(__file__).parent.parent
SECTIONS = (ModelConfig, DataConfig, LossConfig, TrainConfig)


def refusals(key: str, value: Any, folder: Path) -> list[str]:
    """Return the messages with which each way into the configuration refuses a key."""
    section, _, name = key.partition(".")
    nested = {section: {name: value}}
    file = folder / "changes.yaml"
    file.write_text(to_yaml(nested))
    messages = []
    for attempt in (
        lambda: Config().updated({key: value}),
        lambda: Config().updated(nested),
        lambda: Config().updated(read_config_file(file)),
        lambda: Config().updated(parse_assignments([f"{key}={value}"])),
        lambda: parse_config(nested),
    ):
        with pytest.raises(UsageError) as error:
            attempt()
        messages.append(str(error.value))
    with pytest.raises(ValidationError) as invalid:
        Config.model_validate(nested)
    with pytest.raises(ValidationError) as invalid_section:
        Config.model_fields[section].annotation(**{name: value})
    return [*messages, str(invalid.value), str(invalid_section.value)]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_key_is_refused_with_the_new_name(old: str, new: str, tmp_path: Path) -> None:
    for message in refusals(old, "1", tmp_path):
        assert old in message
        assert new in message


def test_a_renamed_value_is_refused_with_the_new_setting(tmp_path: Path) -> None:
    for message in refusals("model.anchors", "none", tmp_path):
        assert "model.queries=embeddings" in message


def test_an_unknown_key_is_refused_with_the_closest_one(tmp_path: Path) -> None:
    assert all("'train.lr'" in message for message in refusals("train.lrr", "1", tmp_path))
    with pytest.raises(UsageError, match=r"section 'trian'.*'train'"):
        Config().updated({"trian.lr": 1})


def test_new_names_exist() -> None:
    for old, new in RENAMED.items():
        section, _, name = new.partition(".")
        assert old.startswith(f"{section}.")
        assert name in Config.model_fields[section].annotation.model_fields


def test_upgrade_reads_a_configuration_of_format_version_1() -> None:
    old = {
        "class_names": ["cat"],
        "model": {
            "num_classes": 1,
            "start": "local",
            "predict_cells": True,
            "refine": False,
            "denoising": 3,
            "denoising_negatives": True,
            "fuse_at": "c4",
            "features": "c3_c4_c5",
            "anchors": "none",
            "backbone_weights": None,
        },
        "train": {"freeze": ["backbone"], "lr": 0.5},
    }
    before = {name: dict(value) if isinstance(value, dict) else value for name, value in old.items()}
    new = upgrade(old)
    assert old == before
    assert new.pop("class_names") == ["cat"]
    config = parse_config(new)
    assert config.model == ModelConfig(
        num_classes=1,
        init="local",
        encoder_loss=True,
        denoising_groups=3,
        denoising_negatives=True,
        fusion_level="c4",
        features="c3_c4_c5",
        queries="embeddings",
    )
    assert config.train == TrainConfig(freeze=("backbone",), lr=0.5)


@pytest.mark.parametrize("name", PRESETS)
def test_upgrade_leaves_todays_configuration_alone(name: str) -> None:
    values = preset(name).model_dump(mode="json")
    assert upgrade(values) == values


def test_upgrade_keeps_other_anchors() -> None:
    assert upgrade({"model": {"anchors": "grid"}}) == {"model": {"anchors": "grid"}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model.box_refinement": True, "model.queries": "embeddings"},
            "box_refinement moves anchors.*queries=anchors",
        ),
        ({"model.features": "c3_c4_c5"}, "three sizes.*fusion_level=c4"),
        ({"model.embed_dim": 48}, "embed_dim.*multiple of 32.*48"),
        ({"train.anchors_from_data": True, "model.anchors": "grid"}, "anchors_from_data.*model.anchors=learned"),
        ({"train.anchors_from_data": True, "model.queries": "embeddings"}, "anchors_from_data.*model.queries=anchors"),
        ({"train.anchors_from_data": True, "model.queries": "proposals"}, "anchors_from_data.*model.queries=anchors"),
        ({"train.lr": "fast"}, "'train.lr'.*'fast'"),
        ({"data.flips": ["diagonal"]}, "'data.flips.0'.*'diagonal'"),
        ({"model.features": "c6"}, "'model.features'.*'c6'"),
        ({"train.seed": 2**64}, "'train.seed'.*9223372036854775807"),
        ({"train.seed": -1}, "'train.seed'"),
        ({"train.seed": 10**5000}, "'train.seed'.*a value of type int"),
        ({"train.epochs": "²"}, "'train.epochs'.*'²'"),
        ({"train.epochs": 10**12}, "'train.epochs'"),
        ({"train.lr": float("nan")}, "'train.lr'.*finite"),
        ({"train.clip_max_norm": float("inf")}, "'train.clip_max_norm'.*finite"),
        ({"loss.focal_gamma": "1e999"}, "'loss.focal_gamma'.*finite"),
        ({"model.denoising_point_noise": float("inf")}, "'model.denoising_point_noise'.*finite"),
        ({"data.train_short_sides": []}, "'data.train_short_sides'.*at least 1"),
        ({"data.train_short_sides": [480, 10**6]}, "'data.train_short_sides.1'.*32768"),
        ({"data.long_side": 0}, "'data.long_side'"),
        ({"data.layout": ["x" * 10_000]}, r"'data.layout'.{,300}$"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_values_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        Config().updated(changes)
    assert "Value error" not in str(error.value)


def test_queries_can_come_from_a_plug_in_or_be_proposals() -> None:
    for name in ("proposals", "mine"):
        assert Config().updated({"model.queries": name, "model.box_refinement": True}).model.queries == name


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("base", ["anchordetr_r50_c5", "anchordetr_v2_tiny"])
def test_a_preset_written_as_yaml_is_the_same_preset(name: str, base: str, tmp_path: Path) -> None:
    file = tmp_path / "preset.yaml"
    file.write_text(to_yaml(preset(name).model_dump(mode="json")))
    assert preset(base).updated(read_config_file(file)) == preset(name)


def test_a_section_without_keys_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "changes.yaml").write_text("model:\n  # features: c4\ntrain:\n  lr: 1e-5\n")
    assert Config().updated(read_config_file(tmp_path / "changes.yaml")) == Config().updated({"train.lr": 1e-5})


@pytest.mark.parametrize(
    ("content", "words"), [("[1, 2]", "sections"), ("model: [", "not valid"), (None, "not exist")], ids=str
)
def test_a_file_that_holds_no_configuration_is_refused(content: str | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "changes.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=rf"changes\.yaml.*{words}"):
        read_config_file(file)


@pytest.mark.parametrize(("assignment", "word"), [("train.lr", "'='"), ("data.flips=[a", "YAML")])
def test_an_assignment_that_cannot_be_read_is_refused(assignment: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        parse_assignments([assignment])


def test_assignments_are_values_of_yaml_and_python() -> None:
    given = ["train.lr=1e-5", "data.flips=[horizontal]", "model.fusion_level=null", "model.init=local", "data.crop=no"]
    assert parse_assignments(given) == {
        "train.lr": 1e-5,
        "data.flips": ["horizontal"],
        "model.fusion_level": None,
        "model.init": "local",
        "data.crop": False,
    }


@pytest.mark.parametrize("text", ["no", "1.10", "02146", "12:30", ": :", "a # b", "[x", "null", "", "²", "'x'"])
def test_text_is_taken_as_written(text: str) -> None:
    assert parse_assignments([f"model.backbone={text}"]) == {"model.backbone": text}


def test_numbers_are_not_those_of_yaml_1_1() -> None:
    assert parse_assignments(["train.epochs=010", "train.lr=1e-5"]) == {"train.epochs": 10, "train.lr": 1e-5}
    for text in ("12:30", "0x10", ": :", "{a"):
        with pytest.raises(UsageError, match=f"'train.epochs'.*{text}"):
            Config().updated(parse_assignments([f"train.epochs={text}"]))


@pytest.mark.parametrize(
    "content",
    [
        "data: {layout: 1.10}\nmodel: {backbone: no, fusion_level: ~}\n"
        "train: {freeze: [yes, 02146], lr: 1e-3}\nloss:\n",
        '{"data": {"layout": "1.10"}, "model": {"backbone": "no", "fusion_level": null},'
        ' "train": {"freeze": ["yes", "02146"], "lr": 1e-3}, "loss": null}',
    ],
    ids=["yaml", "json"],
)
def test_values_of_a_file_are_of_the_type_of_their_key(content: str, tmp_path: Path) -> None:
    file = tmp_path / "changes.yaml"
    file.write_text(content)
    config = Config().updated(read_config_file(file))
    assert (config.data.layout, config.model.backbone, config.model.fusion_level) == ("1.10", "no", None)
    assert (config.train.freeze, config.train.lr) == (("yes", "02146"), 1e-3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_configuration_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="named pipe"):
        read_config_file(tmp_path / "pipe.yaml")


def test_every_key_is_described() -> None:
    assert list(section_titles()) == list(Config.model_fields)
    for section, title in section_titles().items():
        settings = settings_table(section)
        assert title
        assert [setting.key for setting in settings] == [f"{section}.{name}" for name, _ in getattr(Config(), section)]
        for setting in settings:
            assert setting.values
            assert setting.description.endswith("."), f"{setting.key} needs a description that is a sentence"
            assert "|" not in setting.description + setting.values, f"{setting.key} breaks the Markdown table"


def test_sections_leave_prose_to_their_keys() -> None:
    for section in SECTIONS:
        assert section.__doc__
        assert len(section.__doc__.splitlines()) <= 2


def test_values_and_defaults_are_shown_in_words() -> None:
    table = {setting.key: setting for section in section_titles() for setting in settings_table(section)}
    shown = {key: (setting.values, setting.default) for key, setting in table.items()}
    assert shown["model.fusion_level"] == ("`c3`, `c4`, `c5`, `null`", "null")
    assert shown["model.backbone_weights"] == ("path, `null`", "null")
    assert shown["model.num_heads"] == ("integer > 0 and ≤ 256", "8")
    assert shown["model.dropout"] == ("number ≥ 0 and ≤ 1", "0.0")
    assert shown["model.encoder_loss"] == ("`true`, `false`", "false")
    assert shown["data.flips"] == ("list of `horizontal`, `vertical`", "[horizontal]")
    assert shown["data.train_short_sides"][0] == "non-empty list of integer > 0 and ≤ 32768"
    assert shown["train.freeze"] == ("list of `backbone`, `encoder.layers.0`, ...", "[]")


@pytest.mark.parametrize(
    ("key", "names", "module"),
    [
        ("model.attention", ATTENTIONS, "layers.attention"),
        ("model.queries", QUERY_SOURCES, "models.builders"),
        ("model.anchors", ANCHORS, "models.builders"),
        ("model.position_encoder", POSITION_ENCODERS, "layers.position"),
        ("data.layout", DATA_LAYOUTS, "data.layouts.opening"),
    ],
    ids=["attention", "queries", "anchors", "position_encoder", "layout"],
)
def test_the_registered_names_are_shown(key: str, names: Registry, module: str) -> None:
    import_module(f"anchordetr.{module}")
    section, _, name = key.partition(".")
    shown = Config.model_fields[section].annotation.model_fields[name].examples
    own = {known for known in names.names() if names[known].__module__.startswith("anchordetr.")}
    assert set(shown) - {"auto"} == own


def test_precisions_are_those_of_the_device() -> None:
    assert set(get_args(Precision)) == set(PRECISIONS)


def test_the_page_of_settings_is_up_to_date() -> None:
    written = (ROOT / SETTINGS_PAGE).read_text(encoding="utf-8")
    assert written == settings_page(), f"{SETTINGS_PAGE} is out of date; write it with: {REWRITE_COMMAND}"


def test_a_key_that_is_gone_is_refused_with_what_takes_its_place_and_dropped_from_old_files() -> None:
    with pytest.raises(UsageError, match=r"train\.device' is gone; choose the device with --device"):
        parse_config({"train": {"device": "cpu"}})
    assert upgrade({"train": {"device": "cpu", "ema": 0.5}}) == {"train": {"ema_decay": 0.5}}

"""Saved models of format version 1 are read with the current parameter names."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.config.renamed import RENAMED
from anchordetr.weights.format_one import upgrade_weights

OLD_NAMES = {
    "projection.key_encoder.": "key_encoder.",
    "projection.query_encoder.": "query_encoder.",
    "heads.class_head.": "class_head.",
    "heads.box_head.": "box_head.",
    "training_sources.denoising.": "denoising.",
    "training_sources.group_1.": "query_groups.0.",
}


def old_name(name: str) -> str:
    for new, old in OLD_NAMES.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def test_every_renamed_parameter_has_its_new_name() -> None:
    old = (
        "class_head.bias",
        "query_groups.2.patterns.weight",
        "decoder.layers.1.cross_attention.fuse.bias",
        "encoder.layers.0.norm.bias",
    )
    assert list(upgrade_weights(dict.fromkeys(old, torch.zeros(1)))) == [
        "heads.class_head.bias",
        "training_sources.group_3.patterns.weight",
        "decoder.layers.1.cross_attention.merge.bias",
        "encoder.layers.0.norm.bias",
    ]


def test_a_model_of_version_one_predicts_the_same(small_config: Config, tmp_path: Path) -> None:
    changes = {"model.query_groups": 2, "model.denoising_groups": 1, "model.share_position_encoder": False}
    detector = Detector(small_config.updated(changes), ["a", "b", "c"], device="cpu")
    detector.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    for old, new in RENAMED.items():
        (section, name), (_, new_name) = old.split("."), new.split(".")
        values[section][name] = values[section].pop(new_name)
    del values["model"]["queries"]
    values["format_version"] = 1
    weights = {old_name(name): value for name, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt", "config": json.dumps(values)})
    (tmp_path / "config.json").write_text(json.dumps(values))
    read = Detector.from_pretrained(tmp_path, device="cpu")
    assert read.config == detector.config.model_copy(update={"model": detector.config.model.without_pretraining()})
    for name, value in detector.model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], value), name

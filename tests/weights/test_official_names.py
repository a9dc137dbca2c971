"""Parameter names, and the architecture inferred from weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import assert_same, official, original_weights
from pseudo_weights import pseudo_image

from anchordetr import Detector
from anchordetr.config import Config, ModelConfig
from anchordetr.errors import InputError, UsageError
from anchordetr.weights.official import read_original, write_original
from anchordetr.weights.official_names import check_representable
from anchordetr.weights.saved_model import read_model


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"backbone": "resnet101.tv_in1k"}, {"backbone": "resnet101.tv_in1k", "attention": "rcda"}),
        ({"attention": "standard", "num_patterns": 1}, {"attention": "standard", "num_patterns": 1}),
        ({"anchors": "grid"}, {"anchors": "grid", "num_anchors": 9}),
        ({"features": "c3_c4_dc5", "encoder_layers": 4}, {"features": "c3_c4_dc5", "encoder_layers": 4}),
    ],
    ids=lambda value: " ".join(map(str, value.values())),
)
def test_the_architecture_is_inferred_and_converted_back(
    changes: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    state = original_weights(**changes)
    file = tmp_path / "checkpoint.pth"
    torch.save(official(state, dilation="True", num_query_position=9), file)
    saved = read_original(file)
    config = saved.config.model.model_dump()
    assert config | expected == config
    assert (saved.config.model.decoder_layers, saved.config.model.ffn_dim, saved.config.model.num_anchors) == (2, 48, 9)
    write_original(tmp_path / "back.pth", saved)
    assert_same(torch.load(tmp_path / "back.pth", weights_only=True)["model"], state)
    with torch.no_grad():  # the network computes with them
        Detector.from_pretrained(file, device="cpu").model([pseudo_image(0, 64, 96)])


def test_a_model_that_the_original_cannot_represent_is_refused(small_config: Config, tmp_path: Path) -> None:
    Detector(small_config, device="cpu").save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"model\.backbone=test_resnet, model\.features=c4"):
        write_original(tmp_path / "out.pth", read_model(tmp_path))
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("queries", ["embeddings", "proposals"])
def test_other_query_sources_cannot_be_represented(queries: str) -> None:
    with pytest.raises(UsageError, match=f"model.queries={queries}"):
        check_representable(ModelConfig(queries=queries))


def test_heads_that_differ_between_layers_are_refused(tmp_path: Path) -> None:
    state = original_weights()
    state["transformer.class_embed.1.bias"] = torch.zeros(91)
    torch.save(state, tmp_path / "model_c5.pth")
    with pytest.raises(InputError, match="different heads"):
        read_original(tmp_path / "model_c5.pth")

"""The network against the original implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pseudo_weights import pseudo_image, pseudo_state_dict
from torch import Tensor

from anchordetr import create_model
from anchordetr.config import ModelConfig
from anchordetr.layers.memory import Memory, ValidArea
from anchordetr.models.builders import build_model
from anchordetr.postprocess import postprocess
from anchordetr.weights.official_names import from_original

Golden = Callable[[str], dict[str, Tensor]]


@pytest.mark.parametrize("case", ["rcda_learned", "rcda_grid", "standard_learned", "rcda_3_levels"])
def test_transformer(case: str, golden: Golden, golden_json: Callable[[str], Any]) -> None:
    description, tensors = golden_json(f"transformer_{case}"), golden(f"transformer_{case}")
    settings = description["config"]
    config = ModelConfig(
        num_classes=settings["num_classes"],
        backbone="resnet10t",
        pretrained_backbone=False,
        features="c3_c4_dc5" if settings["levels"] == 3 else "c5",
        attention="rcda" if settings["attention"] == "RCDA" else "standard",
        anchors=settings["anchor_type"],
        num_anchors=settings["anchors"],
        num_patterns=settings["patterns"],
        encoder_layers=settings["encoder_layers"],
        decoder_layers=settings["decoder_layers"],
        ffn_dim=settings["ffn_dim"],
    )
    model = build_model(config).eval()
    renamed = {f"transformer.{key}": value for key, value in pseudo_state_dict(description["shapes"]).items()}
    weights = from_original(renamed)
    incompatible = model.load_state_dict(weights, strict=False)
    assert incompatible.unexpected_keys == []
    assert all(
        key.startswith(("backbone.", "projection.convolutions.", "projection.norms."))
        for key in incompatible.missing_keys
    )

    levels = settings["levels"]
    valid = ~tensors["mask"]
    area = ValidArea(valid.any(dim=1), valid.any(dim=2), is_padded=True).repeated(levels)
    encoder = model.projection.key_encoder
    memory = Memory(
        tensors["srcs"].flatten(0, 1).permute(0, 2, 3, 1),
        area.positions(encoder, torch.float32),
        encoder,
        *area.masks,
        levels=levels,
    )
    with torch.no_grad():
        predictions = model.detect(memory)
    torch.testing.assert_close(predictions.logits, tensors["logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(predictions.boxes, tensors["boxes"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["r50_c5", "r50_dc5"])
def test_whole_model_and_postprocessing(case: str, golden: Golden, golden_json: Callable[[str], Any]) -> None:
    tensors = golden(case)
    model = create_model(f"anchordetr_{case}", num_classes=91, pretrained_backbone=False).eval()
    model.load_state_dict(from_original(pseudo_state_dict(golden_json(f"keys_{case}"))))
    with torch.no_grad():
        predictions = model([pseudo_image(*row) for row in tensors["images"].tolist()])
    torch.testing.assert_close(predictions.logits[-1][:, ::9], tensors["logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(predictions.boxes[-1], tensors["boxes"], atol=1e-5, rtol=0)
    torch.testing.assert_close(predictions.boxes[0], tensors["aux0_boxes"], atol=1e-5, rtol=0)

    sizes = [(height, width) for height, width in tensors["target_sizes"].tolist()]
    for index, (found, size) in enumerate(zip(postprocess(predictions, sizes), sizes, strict=True)):
        scores, labels = tensors[f"post{index}_scores"], tensors[f"post{index}_labels"]
        torch.testing.assert_close(torch.from_numpy(found.confidence), scores, atol=1e-5, rtol=0)
        distance = (torch.from_numpy(found.xyxy)[:, None] - tensors[f"post{index}_boxes"]).abs().amax(dim=-1)
        same = (torch.from_numpy(found.class_id)[:, None] == labels) & (distance < 1e-5 * max(size))
        clear = scores > scores[-1] + 1e-6  # equal scores may change places, at the end with a row left out
        assert clear.sum() > 90
        assert same.any(dim=0)[clear].all()
        assert same.any(dim=1)[clear].all()

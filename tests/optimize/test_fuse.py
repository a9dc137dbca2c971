"""A network fused for inference gives the last layer's predictions of the network it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pseudo_weights import pseudo_image, pseudo_state_dict
from torch import Tensor

from anchordetr import create_model
from anchordetr.config import ModelConfig
from anchordetr.layers.feed_forward import FeedForward
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import SinePositionEncoder
from anchordetr.layers.queries import Queries
from anchordetr.layers.query_sources import AnchorQueries
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.optimize.budget import Budget, apply_budget
from anchordetr.types import ImageBatch
from anchordetr.weights.official_names import from_original

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "deep": {"encoder_layers": 2, "decoder_layers": 3},
    "no_encoder": {"encoder_layers": 0},
    "embedding_queries": {"queries": "embeddings"},
    "zero_patterns": {"num_patterns": 0},
    "standard": {"attention": "standard"},
    "proposals": {"queries": "proposals", "box_refinement": True},
    "sine": {"position_encoder": "sine"},
    "separate_encoders": {"share_position_encoder": False},
    "three_levels": {"features": "c3_c4_dc5", "backbone": "resnet10t", "encoder_layers": 2},
    "other_backbone": {"backbone": "test_convnext.r160_in1k"},
    "dropout": {"dropout": 0.5},
    "training_parts": {"encoder_loss": True, "denoising_groups": 2, "query_groups": 2},
    "fused": {"features": "c3_c4_c5", "fusion_level": "c4", "backbone": "resnet10t"},
    "rotary": {"attention": "rcda_rotary", "encoder_layers": 2},
    "rotary_refine": {"attention": "rcda_rotary", "box_refinement": True},
    "refine": {"box_refinement": True, "decoder_layers": 3},
    "box_bias": {"box_bias": True},
    "boxes": {
        "attention": "rcda_rotary",
        "queries": "proposals",
        "box_refinement": True,
        "box_offsets": "relative",
        "box_bias": True,
        "encode_sizes": True,
    },
    "refine_standard": {"box_refinement": True, "attention": "standard", "share_position_encoder": False},
}
IMAGES = [torch.randn(3, 64, 96), torch.randn(3, 64, 96), torch.randn(3, 48, 100)]


def build(config: ModelConfig, **changes: Any) -> AnchorDETR:
    model = build_model(config.model_copy(update=changes)).eval()
    torch.nn.init.normal_(model.heads.box_head.layers[-1].weight)
    torch.nn.init.normal_(model.heads.class_head.weight)
    return model


@pytest.mark.parametrize("images", [IMAGES[:2], IMAGES], ids=["one_size", "padded"])
@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_same_predictions(changes: dict[str, Any], images: list[Tensor], small_model: ModelConfig) -> None:
    model = build(small_model, **changes)
    fused = model.optimize_for_inference()
    with torch.inference_mode():
        expected, found = model(images), fused(images)
    assert found.logits.shape == (1, *expected.logits.shape[1:])
    torch.testing.assert_close(found.logits[0], expected.logits[-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.boxes[0], expected.boxes[-1], atol=2e-5, rtol=5e-5)
    torch.testing.assert_close(found.anchors, expected.anchors, atol=2e-5, rtol=0)
    assert found.num_anchors == expected.num_anchors
    assert not found.auxiliary


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": "standard"},
        {"attention": "rcda_rotary"},
        {"box_refinement": True},
        {"features": "c3_c4_c5", "fusion_level": "c4", "backbone": "resnet10t"},
    ],
    ids=["rcda", "standard", "rotary", "refine", "fused"],
)
def test_bfloat16(changes: dict[str, Any], small_model: ModelConfig) -> None:
    model = build(small_model, **changes)
    with torch.inference_mode():
        expected, found = model(IMAGES), model.optimize_for_inference(torch.bfloat16)(IMAGES)
    assert found.boxes.dtype == found.logits.dtype == torch.float32
    assert (found.boxes[0] - expected.boxes[-1]).abs().mean() < 0.02


def test_other_dtypes_are_refused(small_model: ModelConfig) -> None:
    with pytest.raises(ValueError, match=r"cannot run in torch\.int8; use torch\.float32"):
        build(small_model).optimize_for_inference(torch.int8)


def test_a_network_in_training_mode_is_fused_as_in_eval_mode(small_model: ModelConfig) -> None:
    model = build(small_model, dropout=0.5)
    with torch.inference_mode():
        expected = model(IMAGES).boxes[-1]
    fused = model.train().optimize_for_inference()
    assert model.training
    with torch.inference_mode():
        torch.testing.assert_close(fused(IMAGES).boxes[0], expected, atol=1e-5, rtol=0)


def test_the_network_itself_stays_as_it_was(small_model: ModelConfig) -> None:
    model = build(small_model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = model.optimize_for_inference()
    with torch.no_grad():
        before_change = fused(IMAGES)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])
        for parameter in model.parameters():
            parameter.add_(1.0)
        assert torch.equal(fused(IMAGES).boxes, before_change.boxes)
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    model.train()(IMAGES).boxes.sum().backward()
    assert model.queries.anchors.points.grad is not None


def test_the_originals_predictions(
    golden: Callable[[str], dict[str, Tensor]], golden_json: Callable[[str], Any]
) -> None:
    tensors = golden("r50_dc5")
    model = create_model("anchordetr_r50_dc5", num_classes=91, pretrained_backbone=False)
    model.load_state_dict(from_original(pseudo_state_dict(golden_json("keys_r50_dc5"))))
    fused = model.optimize_for_inference()
    with torch.inference_mode():
        predictions = fused([pseudo_image(*row) for row in tensors["images"].tolist()])
    torch.testing.assert_close(predictions.logits[-1][:, ::9], tensors["logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(predictions.boxes[-1], tensors["boxes"], atol=1e-5, rtol=0)


def test_the_fused_network_is_one_graph_for_torch_compile(small_model: ModelConfig) -> None:
    fused = build(small_model).optimize_for_inference()
    batch = ImageBatch.from_list(IMAGES[:2])
    compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        expected, found = fused(batch), compiled(batch)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-5)


class DoublingFeedForward(FeedForward):
    """A plug-in block whose second linear layer is scaled in every call, until it is fused."""

    scale = 2.0

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(features + self.scale * self.linear2(self.linear1(features)))

    def fuse(self) -> None:
        self.linear2.weight.data.mul_(self.scale)
        self.linear2.bias.data.mul_(self.scale)
        self.scale = 1.0


def test_a_block_fuses_itself(small_model: ModelConfig) -> None:
    model = build(small_model)
    layer = model.encoder.layers[0]
    layer.feed_forward = DoublingFeedForward(32, 32)
    fused = model.optimize_for_inference()
    assert fused.encoder.layers[0].feed_forward.scale == 1.0
    assert layer.feed_forward.scale == 2.0
    with torch.inference_mode():
        torch.testing.assert_close(fused(IMAGES).boxes[0], model(IMAGES).boxes[-1], atol=2e-5, rtol=0)


@pytest.mark.parametrize("changes", [{}, {"queries": "embeddings"}, {"box_refinement": True}], ids=str)
def test_constant_queries_are_encoded_once(
    changes: dict[str, Any], small_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = build(small_model, decoder_layers=1, **changes).optimize_for_inference()
    calls: list[str] = []
    monkeypatch.setattr(type(fused.queries.source), "forward", lambda *_: calls.append("source"))
    encode = SinePositionEncoder.encode_2d
    monkeypatch.setattr(SinePositionEncoder, "encode_2d", lambda *args: calls.append("joint") or encode(*args))
    with torch.inference_mode():
        fused(IMAGES)
        apply_budget(fused, Budget(patterns=1))(IMAGES)
    assert calls == []


def test_proposals_are_made_for_every_image(small_model: ModelConfig) -> None:
    fused = build(small_model, queries="proposals").optimize_for_inference()
    with torch.inference_mode():
        anchors = fused(IMAGES[:2]).anchors
    assert not torch.equal(anchors[0], anchors[1])


class FollowingQueries(AnchorQueries):
    """A plug-in's queries at anchors, whose content comes from the image."""

    def forward(self, memory: Memory, *arguments: Any) -> Queries:
        queries = super().forward(memory, *arguments)
        return queries.with_content(queries.content + memory.row_means.mean(dim=1, keepdim=True))


def test_a_subclass_with_a_forward_of_its_own_is_not_constant(small_model: ModelConfig) -> None:
    model = build(small_model)
    model.queries = FollowingQueries(anchors=model.queries.anchors, patterns=model.queries.patterns)
    fused = model.optimize_for_inference()
    with torch.inference_mode():
        torch.testing.assert_close(fused(IMAGES).boxes[0], model(IMAGES).boxes[-1], atol=2e-5, rtol=0)

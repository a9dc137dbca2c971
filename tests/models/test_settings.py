"""Everything the paper varies is a setting: each value builds and trains one step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anchordetr import create_model, list_models
from anchordetr.config import ModelConfig
from anchordetr.criterion import build_criterion
from anchordetr.errors import UsageError
from anchordetr.models.builders import build_model
from anchordetr.types import ImageBatch, Target

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "anchors_grid": {"anchors": "grid"},
    "anchors_none": {"queries": "embeddings", "num_patterns": 1},
    "detr_queries": {"queries": "embeddings", "num_patterns": 0, "attention": "standard"},
    "one_pattern": {"num_patterns": 1},
    "many_anchors": {"num_anchors": 25},
    "attention_standard": {"attention": "standard"},
    "sine": {"position_encoder": "sine"},
    "separate_encoders": {"share_position_encoder": False},
    "c3": {"features": "c3"},
    "c5": {"features": "c5"},
    "dc5": {"features": "dc5", "backbone": "resnet10t"},
    "three_levels": {"features": "c3_c4_dc5", "backbone": "resnet10t", "encoder_layers": 2},
    "three_levels_standard": {
        "features": "c3_c4_dc5",
        "backbone": "resnet10t",
        "encoder_layers": 2,
        "attention": "standard",
    },
    "other_backbone": {"backbone": "test_convnext.r160_in1k"},
    "frozen_batch_norm": {"freeze_batch_norm": True},
    "frozen_stage": {"frozen_stages": 1},
    "no_encoder": {"encoder_layers": 0},
    "deep": {"encoder_layers": 2, "decoder_layers": 3},
    "wide": {"embed_dim": 64, "num_heads": 8, "ffn_dim": 48},
    "dropout": {"dropout": 0.1},
    "local_start": {"init": "local"},
    "encoder_loss": {"encoder_loss": True},
    "two_levels": {"features": "c4_c5", "backbone": "resnet10t", "encoder_layers": 2},
    "fused_at_c3": {"features": "c3_c4_c5", "fusion_level": "c3", "backbone": "resnet10t", "encoder_layers": 2},
    "fused_at_c4": {"features": "c3_c4_c5", "fusion_level": "c4", "backbone": "resnet10t"},
    "fused_dilated": {"features": "c3_c4_dc5", "fusion_level": "c4", "backbone": "resnet10t"},
    "fused_one": {"fusion_level": "c4"},
    "rotary": {"attention": "rcda_rotary"},
    "rotary_refine": {"attention": "rcda_rotary", "box_refinement": True},
    "rotary_three_levels": {"attention": "rcda_rotary", "features": "c3_c4_dc5", "backbone": "resnet10t"},
    "refine": {"box_refinement": True},
    "refine_everything": {
        "box_refinement": True,
        "encoder_loss": True,
        "features": "c3_c4_dc5",
        "backbone": "resnet10t",
    },
    "predict_locations_three_levels": {"encoder_loss": True, "features": "c3_c4_dc5", "backbone": "resnet10t"},
    "proposals": {"queries": "proposals"},
    "proposals_refined": {"queries": "proposals", "box_refinement": True, "attention": "rcda_rotary"},
    "proposals_of_three_levels": {"queries": "proposals", "features": "c3_c4_dc5", "backbone": "resnet10t"},
    "query_groups": {"query_groups": 2},
    "query_groups_of_embeddings": {"query_groups": 2, "queries": "embeddings"},
    "denoising": {"denoising_groups": 2},
    "denoising_negatives": {"denoising_groups": 2, "denoising_negatives": True, "share_position_encoder": False},
    "denoising_standard": {"denoising_groups": 2, "attention": "standard", "dropout": 0.1},
    "denoising_embeddings": {"denoising_groups": 2, "queries": "embeddings", "position_encoder": "sine"},
    "denoising_three_levels": {"denoising_groups": 2, "features": "c3_c4_dc5", "backbone": "resnet10t"},
    "denoising_three_levels_standard": {
        "denoising_groups": 2,
        "features": "c3_c4_dc5",
        "backbone": "resnet10t",
        "attention": "standard",
    },
}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_each_setting_trains_a_step(changes: dict[str, Any], small_model: ModelConfig) -> None:
    config = ModelConfig(**{**small_model.model_dump(), **changes})
    model = build_model(config).train()
    images = ImageBatch.from_list([torch.randn(3, 64, 80), torch.randn(3, 48, 64)])
    targets = [
        Target(torch.tensor([[0.5, 0.5, 0.2, 0.3]]), torch.tensor([1])),
        Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    predictions = model(images, targets)
    queries = config.num_anchors * max(config.num_patterns, 1)
    assert predictions.logits.shape == (config.decoder_layers, 2, queries, 3)
    assert predictions.boxes.shape == (config.decoder_layers, 2, queries, 4)
    assert predictions.anchors.shape == (2, queries, 2)
    assert ("encoder" in predictions.auxiliary) == (config.encoder_loss or config.queries == "proposals")
    before = build_criterion(3)(predictions, targets).total
    before.backward()
    optimizer.step()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    model.eval()
    with torch.no_grad():
        changed = model(images)
    assert torch.isfinite(changed.boxes).all()
    assert not torch.equal(changed.logits, predictions.logits)


def test_queries_are_pattern_major(small_model: ModelConfig) -> None:
    model = build_model(small_model)
    images = ImageBatch.from_list([torch.randn(3, 64, 64)])
    queries = model.queries(model.projection(model.backbone(images)), model.heads)
    anchors = model.queries.anchors.points
    assert queries.num_anchors == 9
    for query in (0, 8, 9, 17):
        torch.testing.assert_close(queries.references[0, query], anchors[query % 9])
        torch.testing.assert_close(queries.content[0, query], model.queries.patterns.weight[query // 9])


def test_official_presets_have_the_papers_sizes() -> None:
    assert list_models()[:4] == ["anchordetr_r101_c5", "anchordetr_r101_dc5", "anchordetr_r50_c5", "anchordetr_r50_dc5"]
    model = create_model("anchordetr_r50_dc5", num_classes=91, pretrained_backbone=False)
    counts = sum(parameter.numel() for parameter in model.parameters())
    assert 36e6 < counts < 38e6  # the paper: 37 M
    assert len(model.encoder.layers) == len(model.decoder.layers) == 6


def test_unknown_names_suggest_the_closest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'anchordetr_r50_dc5'"):
        create_model("anchordetr_r50_dc6")
    with pytest.raises(UsageError, match="Did you mean 'rcda'"):
        build_model(ModelConfig(backbone="resnet10t", pretrained_backbone=False, attention="rdca"))


def test_an_official_model_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from anchordetr.errors import InputError
    from anchordetr.layers import backbone

    real = backbone.timm.create_model

    def offline(*args: Any, pretrained: bool = False, **kwargs: Any) -> Any:
        if pretrained:
            raise OSError("no route to host")
        return real(*args, pretrained=pretrained, **kwargs)

    monkeypatch.setattr(backbone.timm, "create_model", offline)
    with pytest.raises(InputError, match=r"resnet50\.tv_in1k.*cannot be reached.*model\.backbone_weights=FILE"):
        create_model("anchordetr_r50_c5")


def test_locations_predict_from_their_centres_and_padding_sees_no_object(small_model: ModelConfig) -> None:
    model = build_model(small_model.model_copy(update={"encoder_loss": True})).train()
    images = ImageBatch.from_list([torch.randn(3, 64, 96), torch.randn(3, 32, 64)])
    locations = model(images).auxiliary["encoder"]
    height, width = (64 // 16, 96 // 16)
    centres_x = (torch.arange(width) + 0.5) / width
    torch.testing.assert_close(locations.anchors[0].view(height, width, 2)[0, :, 0], centres_x)
    torch.testing.assert_close(locations.anchors[1].view(height, width, 2)[0, :4, 0], (torch.arange(4) + 0.5) / 4)
    scores = locations.logits[0].sigmoid().amax(dim=-1).view(2, height, width)
    assert (scores[0] > 1e-3).all()
    assert (scores[1, :2, :4] > 1e-3).all()
    assert scores[1, 2:].max() < 1e-9
    assert scores[1, :, 4:].max() < 1e-9
    assert not model.eval()(images).auxiliary

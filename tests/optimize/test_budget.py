"""A network with a part of its queries and decoder layers: the trained one's, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anchordetr.config import ModelConfig
from anchordetr.errors import UsageError
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.optimize.budget import Budget, apply_budget, largest_budget
from anchordetr.types import ImageBatch

IMAGES = [torch.randn(3, 64, 96), torch.randn(3, 48, 100)]
SETTINGS: dict[str, dict[str, Any]] = {
    "learned": {},
    "grid": {"anchors": "grid"},
    "zero_patterns": {"num_patterns": 0},
    "standard": {"attention": "standard"},
    "separate_encoders": {"share_position_encoder": False},
    "refine": {"box_refinement": True, "denoising_groups": 2, "query_groups": 2},
    "rotary": {"attention": "rcda_rotary"},
    "three_levels": {"features": "c3_c4_dc5", "backbone": "resnet10t", "encoder_layers": 2},
}


def build(config: ModelConfig, **changes: Any) -> AnchorDETR:
    model = build_model(config.model_copy(update={"decoder_layers": 3, **changes})).eval()
    torch.nn.init.normal_(model.heads.box_head.layers[-1].weight)
    torch.nn.init.normal_(model.heads.class_head.weight)
    return model


@pytest.mark.parametrize("budget", [Budget(), Budget(9, 2, 3), Budget(patterns=(1, 0))], ids=str)
def test_a_full_budget_is_no_budget(budget: Budget, small_model: ModelConfig) -> None:
    model = build(small_model)
    assert largest_budget(model) == (9, 2, 3)
    with torch.inference_mode():
        expected, found = model(IMAGES), apply_budget(model, budget)(IMAGES)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.anchors, expected.anchors)


@pytest.mark.parametrize(
    "changes", [*SETTINGS.values(), {"queries": "embeddings"}], ids=[*SETTINGS, "embedding_queries"]
)
def test_first_layers_give_their_auxiliary_predictions(changes: dict[str, Any], small_model: ModelConfig) -> None:
    model = build(small_model, **changes)
    with torch.inference_mode():
        expected = model(IMAGES)
        for count in (1, 2):
            found = apply_budget(model, Budget(layers=count))(IMAGES)
            torch.testing.assert_close(found.logits, expected.logits[:count], atol=1e-5, rtol=1e-6)
            torch.testing.assert_close(found.boxes, expected.boxes[:count], atol=1e-6, rtol=0)
    assert len(model.decoder.layers) == 3


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_without_self_attention_each_query_predicts_as_among_all(
    changes: dict[str, Any], small_model: ModelConfig
) -> None:
    model = build(small_model, **changes)
    for layer in model.decoder.layers:
        torch.nn.init.zeros_(layer.self_attention.out_proj.weight)
    small = apply_budget(model, Budget(anchors=4))
    rows = small.queries.anchors
    rows = torch.cat([rows + 9 * pattern for pattern in range(model.queries.num_patterns)])
    with torch.inference_mode():
        expected, found = model(IMAGES), small(IMAGES)
    assert found.num_anchors == 4
    assert torch.equal(found.anchors, expected.anchors[:, rows])
    torch.testing.assert_close(found.logits, expected.logits[:, :, rows], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes[:, :, rows], atol=1e-5, rtol=0)


def test_patterns_are_the_first_ones_or_the_named_ones(small_model: ModelConfig) -> None:
    model = build(small_model, num_patterns=3)
    for patterns, numbers in ((2, [0, 1]), ((2,), [2]), ((2, 0), [0, 2])):
        small = apply_budget(model, Budget(anchors=4, patterns=patterns))
        queries = small.queries(small.projection(small.backbone(ImageBatch.from_list(IMAGES))), small.heads)
        expected = model.queries.patterns.weight[numbers].repeat_interleave(4, dim=0)
        assert torch.equal(queries.content[0], expected)
        assert torch.equal(
            queries.references[0], model.queries.anchors.points[small.queries.anchors].repeat(len(numbers), 1)
        )
        for predictions in (small(IMAGES), small.optimize_for_inference()(IMAGES)):
            assert predictions.pattern_ids.tolist() == numbers
    again = apply_budget(apply_budget(model, Budget(patterns=(1, 2))), Budget(patterns=(1,)))
    assert again(IMAGES).pattern_ids.tolist() == [2]


@pytest.mark.parametrize("budget", [Budget(5, 1, 2), Budget(4, (0,), 1), Budget(layers=1)], ids=str)
@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_fused_it_predicts_the_same(budget: Budget, changes: dict[str, Any], small_model: ModelConfig) -> None:
    small = apply_budget(build(small_model, **changes), budget)
    with torch.inference_mode():
        expected, found = small(IMAGES), small.optimize_for_inference()(IMAGES)
    assert found.boxes.shape == (1, *expected.boxes.shape[1:])
    torch.testing.assert_close(found.logits[0], expected.logits[-1], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found.boxes[0], expected.boxes[-1], atol=1e-5, rtol=0)
    assert torch.equal(found.anchors, expected.anchors)
    assert found.num_anchors == expected.num_anchors


def test_of_proposals_the_best_are_kept_and_padding_stays_padding(small_model: ModelConfig) -> None:
    model = apply_budget(build(small_model, queries="proposals"), Budget(anchors=12))
    images = [torch.randn(3, 64, 96), torch.randn(3, 32, 40)]
    with torch.no_grad():
        together, alone = model(images), model(images[1:])
    assert together.logits.shape[2] == 12
    count = alone.logits.shape[2]
    assert count == 6  # locations of the small image
    torch.testing.assert_close(together.boxes[:, 1, :count], alone.boxes[:, 0], atol=1e-5, rtol=0)
    assert (together.logits[:, 1, count:].sigmoid() < 1e-9).all()


@pytest.mark.parametrize("count", [1, 2])
def test_a_small_map_has_fewer_proposals_than_the_budget(count: int, small_model: ModelConfig) -> None:
    model = build(small_model, queries="proposals", num_anchors=40)
    images = torch.randn(count, 3, 64, 64).unbind()  # a map of 16 locations
    with torch.inference_mode():
        expected, found = model(images), apply_budget(model, Budget(anchors=30))(images)
        few = apply_budget(model, Budget(anchors=5))(images)
    assert found.num_anchors == expected.num_anchors == 16
    torch.testing.assert_close(found.boxes, expected.boxes)
    assert torch.equal(few.anchors, expected.anchors[:, :5])


def test_weights_are_shared_and_the_network_stays_as_it_was(small_model: ModelConfig) -> None:
    model = build(small_model)
    names = list(model.state_dict())
    small = apply_budget(model, Budget(4, 1, 1))
    assert list(model.state_dict()) == names
    assert {id(parameter) for parameter in small.parameters()} < {id(parameter) for parameter in model.parameters()}
    before = small(IMAGES).boxes
    with torch.no_grad():
        model.heads.box_head.layers[-1].bias.add_(1.0)
    assert not torch.equal(small(IMAGES).boxes, before)
    assert model(IMAGES).boxes.shape[::2] == (3, 18)


@pytest.mark.parametrize(
    ("budget", "changes", "message"),
    [
        (Budget(anchors=10), {}, "anchors is 10; this model has 9, choose from 1 to 9."),
        (Budget(anchors=0), {}, "anchors is 0; this model has 9"),
        (Budget(anchors=10), {"anchors": "grid"}, "this model has 9"),
        (Budget(patterns=3), {}, "patterns is 3; this model has 2, choose from 1 to 2."),
        (Budget(patterns=2), {"num_patterns": 0}, "patterns is 2; this model has 1"),
        (Budget(patterns=[0, 2]), {}, "patterns names 0, 2; this model has the patterns 0, 1,"),
        (Budget(patterns=[1, 1]), {}, "patterns names 1, 1; .* name each at most once"),
        (Budget(patterns=[-1]), {}, "patterns names -1"),
        (Budget(patterns=[]), {}, "patterns names nothing"),
        (Budget(layers=3), {}, "layers is 3; this model has 2, choose from 1 to 2."),
        (Budget(layers=-1), {}, "layers is -1"),
        (Budget(anchors=4), {"queries": "embeddings"}, "9 learned queries without anchor points.*leave out anchors"),
    ],
    ids=str,
)
def test_what_the_model_has_not_is_refused(
    budget: Budget, changes: dict[str, Any], message: str, small_model: ModelConfig
) -> None:
    with pytest.raises(UsageError, match=message):
        apply_budget(build_model(small_model.model_copy(update=changes)), budget)


def test_a_budget_of_a_fused_network_is_the_fused_network_of_a_budget(small_model: ModelConfig) -> None:
    model, budget = build(small_model), Budget(4, 1, 2)
    fused = model.optimize_for_inference()
    part = apply_budget(fused, budget)
    assert part.encoder is fused.encoder
    assert largest_budget(fused) == (9, 2, 3)
    with torch.inference_mode():
        expected, found = apply_budget(model, budget).optimize_for_inference()(IMAGES), part(IMAGES)
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.logits, expected.logits)
    assert apply_budget(fused, Budget()) is fused

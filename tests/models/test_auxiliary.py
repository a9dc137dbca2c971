"""What learns in training only: it changes no prediction, costs nothing in eval mode, and travels with saved models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anchordetr.config import LossConfig, ModelConfig
from anchordetr.criterion import build_criterion
from anchordetr.layers.recompute import recomputing
from anchordetr.models.anchor_detr import TRAINING_ONLY, AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.types import ImageBatch, Target
from anchordetr.weights.checks import load_weights
from anchordetr.weights.official_names import to_original

IMAGES = ImageBatch.from_list([torch.randn(3, 64, 80), torch.randn(3, 48, 64)])
TARGETS = [
    Target(torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.3, 0.6, 0.2, 0.2], [0.7, 0.3, 0.1, 0.3]]), torch.tensor([1, 0, 2])),
    Target(torch.tensor([[0.4, 0.4, 0.3, 0.3]]), torch.tensor([2])),
]
NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
PARTS: dict[str, dict[str, Any]] = {
    "denoising": {"denoising_groups": 2},
    "negatives": {"denoising_groups": 2, "denoising_negatives": True},
    "groups": {"query_groups": 3},
    "all": {"denoising_groups": 1, "query_groups": 2, "encoder_loss": True},
}


def build(config: ModelConfig, **changes: Any) -> AnchorDETR:
    torch.manual_seed(3)
    model = build_model(config.model_copy(update=changes)).train()
    torch.manual_seed(4)
    torch.nn.init.normal_(model.heads.box_head.layers[-1].weight)
    torch.nn.init.normal_(model.heads.class_head.weight)
    return model


@pytest.mark.parametrize("changes", PARTS.values(), ids=PARTS.keys())
def test_the_prediction_and_its_gradient_are_those_without(changes: dict[str, Any], small_model: ModelConfig) -> None:
    plain, rich = build(small_model), build(small_model, **changes)
    assert all(torch.equal(value, rich.state_dict()[name]) for name, value in plain.state_dict().items())
    expected, found = plain(IMAGES), rich(IMAGES, TARGETS)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.boxes, expected.boxes)
    for predictions in (expected, found):
        (predictions.logits.square().sum() + predictions.boxes.sum()).backward()
    for name, value in rich.named_parameters():
        other = None if name.startswith(TRAINING_ONLY) else plain.get_parameter(name).grad
        assert (value.grad is None and other is None) or torch.equal(value.grad, other), name  # type: ignore[arg-type]


def test_a_group_predicts_as_if_it_were_alone(small_model: ModelConfig) -> None:
    model = build(small_model, query_groups=3)
    auxiliary = model(IMAGES).auxiliary
    assert list(auxiliary) == ["group_1", "group_2"]
    for number in (1, 2):
        alone = build(small_model)
        alone.queries = model.training_sources[f"group_{number}"]
        expected = alone(IMAGES)
        assert torch.equal(auxiliary[f"group_{number}"].boxes, expected.boxes)
        assert torch.equal(auxiliary[f"group_{number}"].anchors, expected.anchors)
    assert not torch.equal(auxiliary["group_1"].boxes, auxiliary["group_2"].boxes)


def test_a_denoising_query_feels_no_other_image(small_model: ModelConfig) -> None:
    config = {"denoising_groups": 1, "denoising_point_noise": 0.0, "denoising_label_noise": 0.0}
    model = build(small_model, freeze_batch_norm=True, **config)
    images = torch.randn(2, 3, 64, 64)
    together = model(ImageBatch.from_list(list(images)), TARGETS).auxiliary["denoising"]
    alone = model(ImageBatch.from_list([images[1]]), TARGETS[1:]).auxiliary["denoising"]
    torch.testing.assert_close(together.boxes[:, 1:, :1], alone.boxes[:, :, :1], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.logits[:, 1:, :1], alone.logits[:, :, :1], atol=1e-4, rtol=1e-5)
    assert together.logits[:, 1, 1:].sigmoid().max() < 1e-9  # the padding sees no object


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("targets", [TARGETS, [TARGETS[1], NOTHING], [NOTHING, NOTHING]], ids=["both", "one", "none"])
def test_every_parameter_has_a_gradient(
    targets: list[Target], precision: torch.dtype, small_model: ModelConfig
) -> None:
    """As several processes need it, also where a batch has no objects."""
    model = build(small_model, denoising_groups=2, denoising_negatives=True, query_groups=2)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        predictions = model(IMAGES, targets)
    losses = build_criterion(3)(predictions, targets)
    losses.total.backward()
    for name, value in model.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
    has_objects = any(len(target.labels) for target in targets)
    assert (model.training_sources["denoising"].labels.weight.grad.abs().sum() > 0) == has_objects
    assert (losses.terms["box_denoising"] > 0) == has_objects


def test_more_objects_than_queries(small_model: ModelConfig) -> None:
    targets = [Target(torch.rand(30, 4) / 2 + 0.2, torch.randint(3, (30,))), NOTHING]
    model = build(small_model, denoising_groups=2, query_groups=2)
    losses = build_criterion(3)(model(IMAGES, targets), targets)
    assert losses.total.isfinite()
    assert losses.terms["box_denoising"] > 0


def test_eval_mode_has_nothing_of_it(small_model: ModelConfig) -> None:
    model = build(small_model, denoising_groups=2, query_groups=2).eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        predictions = model(IMAGES, TARGETS)
        prepared = model.optimize_for_inference()
        found = prepared(IMAGES)
    assert torch.equal(torch.get_rng_state(), state)
    assert not predictions.auxiliary
    torch.testing.assert_close(found.boxes[0], predictions.boxes[-1], atol=1e-5, rtol=0)
    assert not any(name.startswith(TRAINING_ONLY) for name in prepared.state_dict())


def test_every_query_source_is_given_the_targets(small_model: ModelConfig) -> None:
    model, given = build(small_model, query_groups=2), []
    for source in (model.queries, model.training_sources["group_1"]):
        source.register_forward_pre_hook(lambda module, arguments: given.append(arguments[2]))
    model(IMAGES, TARGETS)
    assert given == [TARGETS, TARGETS]


def test_denoising_predictions_know_their_targets(small_model: ModelConfig) -> None:
    predictions = build(small_model, denoising_groups=2)(IMAGES, TARGETS)
    indices = predictions.auxiliary["denoising"].target_indices
    assert predictions.target_indices is None
    assert indices is not None
    assert indices.tolist() == [[[0, 1, 2, -1]] * 2, [[0, -1, -1, -1]] * 2]


def test_missing_targets_are_named(small_model: ModelConfig) -> None:
    with pytest.raises(ValueError, match=r"model\(images, targets\), or model\.eval\(\)"):
        build(small_model, denoising_groups=1)(IMAGES)


def test_weights_of_training_alone_may_come_and_go(small_model: ModelConfig) -> None:
    plain, rich = build(small_model), build(small_model, denoising_groups=2, query_groups=2)
    weights = {name: torch.full_like(value, 0.25) for name, value in rich.state_dict().items()}
    load_weights(plain, weights, "rich")
    assert (plain.heads.class_head.weight == 0.25).all()
    fresh = rich.training_sources["denoising"].labels.weight.clone()
    load_weights(rich, plain.state_dict(), "plain")
    assert (rich.heads.class_head.weight == 0.25).all()
    assert torch.equal(rich.training_sources["denoising"].labels.weight, fresh)
    load_weights(rich, weights, "rich")
    assert (rich.training_sources["denoising"].labels.weight == 0.25).all()


def test_the_originals_format_leaves_them_out(small_model: ModelConfig) -> None:
    plain, rich = build(small_model), build(small_model, denoising_groups=2, query_groups=2)
    assert to_original(rich.state_dict(), 2).keys() == to_original(plain.state_dict(), 2).keys()


def test_gradient_checkpointing_changes_nothing(small_model: ModelConfig) -> None:
    model = build(small_model, denoising_groups=2, query_groups=2, dropout=0.2, freeze_batch_norm=True)

    def gradients(recompute: bool) -> dict[str, Tensor]:
        model.zero_grad()
        torch.manual_seed(0)
        with recomputing(model.layers if recompute else []):
            build_criterion(3)(model(IMAGES, TARGETS), TARGETS).total.backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    plain, recomputed = gradients(False), gradients(True)
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value, atol=2e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("classification", ["focal", "varifocal"])
def test_the_losses_fall(classification: str, small_model: ModelConfig) -> None:
    torch.manual_seed(0)
    config = {"denoising_groups": 2, "denoising_negatives": True, "query_groups": 2, "init": "local"}
    model = build_model(small_model.model_copy(update=config)).train()
    criterion = build_criterion(3, LossConfig(classification=classification))  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(40):
        losses = criterion(model(IMAGES, TARGETS), TARGETS)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append({name: float(value) for name, value in losses.terms.items()})
    for name in ("box", "giou", "box_group_1", "giou_group_1", "box_denoising", "giou_denoising"):
        assert history[-1][name] < 0.9 * history[0][name], name

"""Matching and losses against the original's, and where they must not break."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou, generalized_box_iou, sigmoid_focal_loss

from anchordetr.config import LossConfig
from anchordetr.criterion import build_criterion
from anchordetr.criterion.boxes import generalized_iou
from anchordetr.types import Predictions, Target


def predictions_of(logits: Tensor, boxes: Tensor) -> Predictions:
    queries = logits.shape[2]
    return Predictions(logits, boxes, torch.full((logits.shape[1], queries, 2), 0.5), num_anchors=queries)


def test_golden_losses_matching_and_gradients(golden: Callable[[str], dict[str, Tensor]]) -> None:
    case = golden("losses")
    logits = torch.stack([case["aux0_logits"], case["aux1_logits"], case["pred_logits"]]).requires_grad_()
    boxes = torch.stack([case["aux0_boxes"], case["aux1_boxes"], case["pred_boxes"]]).requires_grad_()
    targets = [Target(case[f"target{index}_boxes"], case[f"target{index}_labels"]) for index in range(3)]
    losses = build_criterion(num_classes=7)(predictions_of(logits, boxes), targets)

    torch.testing.assert_close(losses.total, case["total"][0], rtol=1e-5, atol=0)
    original = {"class": "loss_ce", "box": "loss_bbox", "giou": "loss_giou"}
    for name, theirs in original.items():
        for suffix in ("", "_0", "_1"):
            torch.testing.assert_close(
                losses.terms[name + suffix], case[f"loss/{theirs}{suffix}"][0], rtol=1e-5, atol=0
            )
    matches = losses.matches
    for image in range(3):
        rows = (matches.layer == 2) & (matches.image == image)
        assert matches.query[rows].tolist() == case[f"match{image}_query"].tolist()
        assert matches.target[rows].tolist() == case[f"match{image}_target"].tolist()

    losses.total.backward()
    for gradient, expected in ((logits.grad, case["grad_pred_logits"]), (boxes.grad, case["grad_pred_boxes"])):
        assert gradient is not None
        assert (gradient[-1] - expected).abs().max() / expected.abs().max() < 1e-4


def test_generalized_iou_equals_torchvisions() -> None:
    first, second = torch.rand(6, 4) + 0.01, torch.rand(5, 4) + 0.01
    expected = generalized_box_iou(box_convert(first, "cxcywh", "xyxy"), box_convert(second, "cxcywh", "xyxy"))
    torch.testing.assert_close(generalized_iou(first[:, None], second), expected)


@pytest.mark.parametrize("box", [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, -0.1, 0.2], [float("nan"), 0.5, 0.1, 0.1]])
def test_generalized_iou_never_raises(box: list[float]) -> None:
    value = generalized_iou(torch.tensor(box), torch.tensor([0.5, 0.5, 0.0, 0.0]))
    assert value.isnan() == torch.tensor(box).isnan().any()


def test_a_batch_without_objects_has_a_finite_loss_and_no_box_loss() -> None:
    logits = torch.randn(2, 2, 5, 3, requires_grad=True)
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    losses = build_criterion(3)(predictions_of(logits, torch.rand(2, 2, 5, 4)), [nothing, nothing])
    losses.total.backward()
    assert losses.terms["box"] == losses.terms["giou"] == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_more_objects_than_queries_match_every_query() -> None:
    target = Target(torch.rand(9, 4), torch.randint(3, (9,)))
    losses = build_criterion(3)(predictions_of(torch.randn(1, 1, 4, 3), torch.rand(1, 1, 4, 4)), [target])
    assert sorted(losses.matches.query.tolist()) == [0, 1, 2, 3]
    assert losses.matches.target.unique().numel() == 4


def test_locations_add_losses_of_their_own() -> None:
    criterion = build_criterion(3)
    target = Target(torch.rand(2, 4) / 2 + 0.25, torch.tensor([0, 2]))
    queries = predictions_of(torch.randn(2, 1, 4, 3), torch.rand(2, 1, 4, 4))
    locations = predictions_of(torch.randn(1, 1, 6, 3), torch.rand(1, 1, 6, 4))
    alone, of_locations = criterion(queries, [target]), criterion(locations, [target])
    both = criterion(replace(queries, auxiliary={"encoder": locations}), [target])
    torch.testing.assert_close(both.total, alone.total + of_locations.total)
    assert both.terms["class_encoder"] == of_locations.terms["class"]
    assert both.terms["class"] == alone.terms["class"]


def test_known_objects_are_not_matched_and_each_counts_once() -> None:
    logits, boxes = torch.randn(2, 2, 6, 3), torch.rand(2, 2, 6, 4)
    targets = [Target(torch.rand(2, 4), torch.tensor([0, 2])), Target(torch.rand(1, 4), torch.tensor([1]))]
    objects = torch.tensor([[[0, 1, -1], [0, 1, -1]], [[0, -1, -1], [0, -1, -1]]])
    main = predictions_of(torch.randn(2, 2, 4, 3), torch.rand(2, 2, 4, 4))
    known = replace(predictions_of(logits, boxes), target_indices=objects)
    terms = build_criterion(3)(replace(main, auxiliary={"denoising": known}), targets).terms
    for layer, suffix in ((0, "_0"), (1, "")):
        wanted, distance, overlap = torch.zeros(2, 6, 3), torch.tensor(0.0), torch.tensor(0.0)
        for image, target in enumerate(targets):
            for query, index in enumerate(objects[image].flatten().tolist()):
                if index >= 0:
                    wanted[image, query, target.labels[index]] = 1.0
                    distance += (boxes[layer, image, query] - target.boxes[index]).abs().sum()
                    overlap += 1 - generalized_iou(boxes[layer, image, query], target.boxes[index])
        focal = sigmoid_focal_loss(logits[layer], wanted, reduction="sum")
        for name, value in (("class", focal), ("box", distance), ("giou", overlap)):
            torch.testing.assert_close(terms[f"{name}{suffix}_denoising"], value / (3 * 2))


def test_varifocal_scores_are_the_ious() -> None:
    logits, boxes = torch.randn(1, 1, 4, 3), torch.rand(1, 1, 4, 4) / 4 + 0.3
    target = Target(torch.rand(2, 4) / 4 + 0.3, torch.tensor([2, 0]))
    losses = build_criterion(3, LossConfig(classification="varifocal"))(predictions_of(logits, boxes), [target])
    scores = torch.zeros(4, 3)
    for query, index in zip(losses.matches.query.tolist(), losses.matches.target.tolist(), strict=True):
        corners = [box_convert(box[None], "cxcywh", "xyxy") for box in (boxes[0, 0, query], target.boxes[index])]
        scores[query, target.labels[index]] = box_iou(*corners)[0, 0]
    assert (scores > 0).sum() == 2
    expected = 0.0
    for logit, q in zip(logits.flatten().tolist(), scores.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        positive = -q * (q * math.log(p) + (1 - q) * math.log(1 - p))
        expected += positive if q > 0 else -0.75 * p**2 * math.log(1 - p)
    assert losses.terms["class"].item() == pytest.approx(expected / 2, rel=1e-5)


def test_varifocal_scores_carry_no_gradient_to_the_boxes() -> None:
    boxes = (torch.rand(1, 1, 4, 4) / 4 + 0.3).requires_grad_()
    target = Target(torch.rand(2, 4) / 4 + 0.3, torch.tensor([2, 0]))
    config = LossConfig(classification="varifocal", box_weight=0.0, giou_weight=0.0)
    build_criterion(3, config)(predictions_of(torch.randn(1, 1, 4, 3), boxes), [target]).total.backward()
    assert boxes.grad is not None
    assert not boxes.grad.any()


def test_non_finite_predictions_do_not_raise_in_the_matcher() -> None:
    boxes = torch.rand(1, 1, 4, 4)
    boxes[0, 0, 1] = float("nan")
    losses = build_criterion(3)(
        predictions_of(torch.randn(1, 1, 4, 3), boxes), [Target(torch.rand(2, 4), torch.tensor([0, 2]))]
    )
    assert 1 not in losses.matches.query.tolist()


def test_disagreeing_shapes_are_named() -> None:
    predictions = predictions_of(torch.randn(1, 2, 4, 3), torch.rand(1, 2, 4, 4))
    target = Target(torch.rand(2, 4), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="2 images but there are 1 targets"):
        build_criterion(3)(predictions, [target])
    with pytest.raises(ValueError, match="3 classes; the criterion was built for 5"):
        build_criterion(5)(predictions, [target, target])
    with pytest.raises(ValueError, match="Target 1 has boxes"):
        build_criterion(3)(predictions, [target, Target(torch.rand(3, 4), torch.tensor([0]))])

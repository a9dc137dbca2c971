"""The set-prediction loss, compared with the original's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from anchordetr.criterion import build_criterion
from anchordetr.types import Predictions, Target

MakePredictions = Callable[[Tensor, Tensor], Predictions]


def test_golden_losses_matching_and_gradients(
    golden: Callable[[str], dict[str, Tensor]], predictions_of: MakePredictions
) -> None:
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


def test_a_batch_without_objects_has_a_finite_loss_and_no_box_loss(predictions_of: MakePredictions) -> None:
    logits = torch.randn(2, 2, 5, 3, requires_grad=True)
    no_objects = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    losses = build_criterion(3)(predictions_of(logits, torch.rand(2, 2, 5, 4)), [no_objects, no_objects])
    losses.total.backward()
    assert losses.terms["box"] == losses.terms["giou"] == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_auxiliary_predictions_add_their_losses(predictions_of: MakePredictions) -> None:
    criterion = build_criterion(3)
    target = Target(torch.rand(2, 4) / 2 + 0.25, torch.tensor([0, 2]))
    queries = predictions_of(torch.randn(2, 1, 4, 3), torch.rand(2, 1, 4, 4))
    encoder = predictions_of(torch.randn(1, 1, 6, 3), torch.rand(1, 1, 6, 4))
    main_losses, encoder_losses = criterion(queries, [target]), criterion(encoder, [target])
    both = criterion(replace(queries, auxiliary={"encoder": encoder}), [target])
    torch.testing.assert_close(both.total, main_losses.total + encoder_losses.total)
    assert both.terms["class_encoder"] == encoder_losses.terms["class"]
    assert both.terms["class"] == main_losses.terms["class"]


def test_inconsistent_shapes_are_named(predictions_of: MakePredictions) -> None:
    predictions = predictions_of(torch.randn(1, 2, 4, 3), torch.rand(1, 2, 4, 4))
    target = Target(torch.rand(2, 4), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"2 images.* 1 targets"):
        build_criterion(3)(predictions, [target])
    with pytest.raises(ValueError, match=r"3 classes.* 5"):
        build_criterion(5)(predictions, [target, target])
    with pytest.raises(ValueError, match="Target 1 has boxes"):
        build_criterion(3)(predictions, [target, Target(torch.rand(3, 4), torch.tensor([0]))])

"""The classification losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from anchordetr.config import LossConfig
from anchordetr.criterion import build_criterion
from anchordetr.types import Predictions, Target

MakePredictions = Callable[[Tensor, Tensor], Predictions]


def test_varifocal_target_scores_are_the_ious(predictions_of: MakePredictions) -> None:
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


def test_varifocal_target_scores_have_no_gradient(predictions_of: MakePredictions) -> None:
    boxes = (torch.rand(1, 1, 4, 4) / 4 + 0.3).requires_grad_()
    target = Target(torch.rand(2, 4) / 4 + 0.3, torch.tensor([2, 0]))
    config = LossConfig(classification="varifocal", box_weight=0.0, giou_weight=0.0)
    build_criterion(3, config)(predictions_of(torch.randn(1, 1, 4, 3), boxes), [target]).total.backward()
    assert boxes.grad is not None
    assert not boxes.grad.any()

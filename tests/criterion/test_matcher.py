"""Hungarian matching and known matches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from anchordetr.criterion import build_criterion
from anchordetr.criterion.boxes import generalized_iou
from anchordetr.types import Predictions, Target

MakePredictions = Callable[[Tensor, Tensor], Predictions]


def test_more_objects_than_queries_match_every_query(predictions_of: MakePredictions) -> None:
    target = Target(torch.rand(9, 4), torch.randint(3, (9,)))
    losses = build_criterion(3)(predictions_of(torch.randn(1, 1, 4, 3), torch.rand(1, 1, 4, 4)), [target])
    assert sorted(losses.matches.query.tolist()) == [0, 1, 2, 3]
    assert losses.matches.target.unique().numel() == 4


def test_non_finite_predictions_do_not_raise_in_the_matcher(predictions_of: MakePredictions) -> None:
    boxes = torch.rand(1, 1, 4, 4)
    boxes[0, 0, 1] = float("nan")
    losses = build_criterion(3)(
        predictions_of(torch.randn(1, 1, 4, 3), boxes), [Target(torch.rand(2, 4), torch.tensor([0, 2]))]
    )
    assert 1 not in losses.matches.query.tolist()


def test_known_targets_are_not_matched_and_each_counts_once(predictions_of: MakePredictions) -> None:
    logits, boxes = torch.randn(2, 2, 6, 3), torch.rand(2, 2, 6, 4)
    targets = [Target(torch.rand(2, 4), torch.tensor([0, 2])), Target(torch.rand(1, 4), torch.tensor([1]))]
    target_indices = torch.tensor([[[0, 1, -1], [0, 1, -1]], [[0, -1, -1], [0, -1, -1]]])
    main = predictions_of(torch.randn(2, 2, 4, 3), torch.rand(2, 2, 4, 4))
    known = replace(predictions_of(logits, boxes), target_indices=target_indices)
    terms = build_criterion(3)(replace(main, auxiliary={"denoising": known}), targets).terms
    for layer, suffix in ((0, "_0"), (1, "")):
        target_scores, distance, overlap = torch.zeros(2, 6, 3), torch.tensor(0.0), torch.tensor(0.0)
        for image, target in enumerate(targets):
            for query, index in enumerate(target_indices[image].flatten().tolist()):
                if index >= 0:
                    target_scores[image, query, target.labels[index]] = 1.0
                    distance += (boxes[layer, image, query] - target.boxes[index]).abs().sum()
                    overlap += 1 - generalized_iou(boxes[layer, image, query], target.boxes[index])
        focal = sigmoid_focal_loss(logits[layer], target_scores, reduction="sum")
        for name, value in (("class", focal), ("box", distance), ("giou", overlap)):
            torch.testing.assert_close(terms[f"{name}{suffix}_denoising"], value / (3 * 2))

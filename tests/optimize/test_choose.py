"""Which anchors a budget keeps, and what it refuses."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from anchordetr.config import ModelConfig
from anchordetr.errors import UsageError
from anchordetr.models.builders import build_model
from anchordetr.optimize.budget import Budget, spread


def cost(points: Tensor, rows: Tensor) -> float:
    """The sum of squared distances from all points to their nearest chosen one."""
    return float(torch.cdist(points, points[rows]).amin(dim=1).square().sum())


def test_all_points_are_all_rows_in_order() -> None:
    points = torch.rand(20, 2)
    assert torch.equal(spread(points, 20), torch.arange(20))
    assert torch.equal(spread(points[:1].expand(5, 2), 5), torch.arange(5))


def test_one_point_is_the_one_in_the_middle() -> None:
    points = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.52, 0.5], [0.1, 0.9], [0.9, 0.9]])
    assert spread(points, 1).tolist() == [2]


def test_each_cluster_keeps_one() -> None:
    centres = torch.tensor([[0.2, 0.2], [0.8, 0.3], [0.5, 0.9]])
    points = centres.repeat_interleave(7, dim=0) + 0.02 * torch.randn(21, 2)
    assert (spread(points, 3) // 7).tolist() == [0, 1, 2]


def test_a_smaller_choice_is_part_of_a_larger_one() -> None:
    points = torch.rand(60, 2)
    choices = [set(spread(points, count).tolist()) for count in (5, 15, 30, 60)]
    assert [len(choice) for choice in choices] == [5, 15, 30, 60]
    assert all(small < large for small, large in pairwise(choices))


def test_the_choice_is_near_the_best_and_far_better_than_the_first_ones() -> None:
    points = torch.rand(14, 2)
    best = min(cost(points, torch.tensor(rows)) for rows in combinations(range(14), 4))
    assert cost(points, spread(points, 4)) < 1.5 * best
    many = torch.rand(300, 2)
    assert cost(many, spread(many, 75)) < 0.7 * cost(many, torch.arange(75))


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
        build_model(small_model.model_copy(update=changes)).with_budget(budget)


def test_a_prepared_network_says_when_to_choose(small_model: ModelConfig) -> None:
    prepared = build_model(small_model).optimize_for_inference()
    with pytest.raises(UsageError, match="call with_budget before optimize_for_inference"):
        prepared.with_budget(Budget(layers=1))
    assert prepared.with_budget(Budget()) is prepared

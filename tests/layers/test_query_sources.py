"""Queries and where they come from."""

from __future__ import annotations

from itertools import combinations, pairwise

import torch
from torch import Tensor

from anchordetr.layers.query_sources import evenly_spread


def cost(points: Tensor, rows: Tensor) -> float:
    """The sum of squared distances from all points to their nearest chosen one."""
    return float(torch.cdist(points, points[rows]).amin(dim=1).square().sum())


def test_all_points_are_all_rows_in_order() -> None:
    points = torch.rand(20, 2)
    assert torch.equal(evenly_spread(points, 20), torch.arange(20))
    assert torch.equal(evenly_spread(points[:1].expand(5, 2), 5), torch.arange(5))


def test_one_point_is_the_one_in_the_middle() -> None:
    points = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.52, 0.5], [0.1, 0.9], [0.9, 0.9]])
    assert evenly_spread(points, 1).tolist() == [2]


def test_each_cluster_keeps_one() -> None:
    centres = torch.tensor([[0.2, 0.2], [0.8, 0.3], [0.5, 0.9]])
    points = centres.repeat_interleave(7, dim=0) + 0.02 * torch.randn(21, 2)
    assert (evenly_spread(points, 3) // 7).tolist() == [0, 1, 2]


def test_a_smaller_choice_is_part_of_a_larger_one() -> None:
    points = torch.rand(60, 2)
    choices = [set(evenly_spread(points, count).tolist()) for count in (5, 15, 30, 60)]
    assert [len(choice) for choice in choices] == [5, 15, 30, 60]
    assert all(small < large for small, large in pairwise(choices))


def test_the_choice_is_near_the_best_and_far_better_than_the_first_ones() -> None:
    points = torch.rand(14, 2)
    best = min(cost(points, torch.tensor(rows)) for rows in combinations(range(14), 4))
    assert cost(points, evenly_spread(points, 4)) < 1.5 * best
    many = torch.rand(300, 2)
    assert cost(many, evenly_spread(many, 75)) < 0.7 * cost(many, torch.arange(75))

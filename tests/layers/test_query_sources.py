"""Queries and where they come from."""

from __future__ import annotations

from itertools import combinations, pairwise

import torch
from torch import Tensor, nn

from anchordetr.layers.heads import Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions, SinePositionEncoder
from anchordetr.layers.query_sources import EmbeddingQueries, Patterns, evenly_spread

ENCODER = SinePositionEncoder(8)
CENTER = torch.full((1, 1), 0.5)
HEADS = Heads(class_head=nn.Identity(), box_head=nn.Identity())


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


def test_learned_embeddings_repeat_for_each_pattern() -> None:
    source = EmbeddingQueries(num_queries=3, patterns=Patterns(2, 8), embed_dim=8)
    memory = Memory(torch.zeros(2, 1, 1, 8, dtype=torch.bfloat16), MapPositions(CENTER, CENTER, ENCODER), ENCODER)
    queries = source(memory, HEADS)
    assert queries.num_anchors == 3
    assert queries.content.dtype == queries.positions.joint.dtype == torch.bfloat16
    assert torch.equal(queries.positions.joint[0], source.position.bfloat16().repeat(2, 1))
    assert torch.equal(queries.content[0], source.patterns.weight.bfloat16().repeat_interleave(3, dim=0))
    assert (queries.references == 0.5).all()

"""Map attentions on positions of queries and maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anchordetr.layers.attention import RotaryMapAttention
from anchordetr.layers.position import Positions, SinePositionEncoder

ENCODER = SinePositionEncoder(16)


def at(points: Tensor) -> Positions:
    x, y, xy = ENCODER.of_points(points)
    return Positions(x, y, xy, points)


def locations(height: int, width: int) -> Positions:
    mask_x, mask_y = torch.ones(1, width, dtype=torch.bool), torch.ones(1, height, dtype=torch.bool)
    return ENCODER.of_map(mask_x, mask_y, joint=False)


def test_rotary_self_attention_is_attention_from_the_locations_centres() -> None:
    attention, memory = RotaryMapAttention(16, 2), torch.randn(2, 3, 5, 16)
    map_pos = locations(3, 5)
    from_map = attention(memory, memory, map_pos, map_pos, None, None)
    points = at(map_pos.coordinates.flatten(1, 2))
    from_points = attention(memory.flatten(1, 2), memory, points, map_pos, None, None)
    torch.testing.assert_close(from_map.flatten(1, 2), from_points)


def test_rotary_attention_sees_how_far_locations_are_and_not_where() -> None:
    attention, memory, points = RotaryMapAttention(16, 2), torch.randn(1, 3, 5, 16), torch.rand(1, 4, 2) / 2
    query, map_pos, shift = torch.randn(1, 4, 16), locations(3, 5), torch.tensor([0.3, 0.1])
    here = attention(query, memory, at(points), map_pos, None, None)
    shifted = map_pos._replace(points=map_pos.coordinates + shift)
    there = attention(query, memory, at(points + shift), shifted, None, None)
    torch.testing.assert_close(there, here, atol=1e-5, rtol=0)
    for direction in torch.eye(2):
        moved = attention(query, memory, at(points + 0.3 * direction), map_pos, None, None)
        assert (moved - here).abs().max() > 1e-3


def test_positions_without_points_are_refused() -> None:
    nowhere = at(torch.rand(1, 4, 2))._replace(points=None)
    with pytest.raises(ValueError, match=r"give them as Positions\(x, y, xy, points\)"):
        RotaryMapAttention(16, 2)(torch.randn(1, 4, 16), torch.randn(1, 3, 5, 16), nowhere, locations(3, 5), None, None)

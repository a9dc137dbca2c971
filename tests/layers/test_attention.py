"""Map attentions on positions of queries and maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anchordetr.layers.attention import (
    MultiLevelAttention,
    RotaryMapAttention,
    RowColumnMapAttention,
    StandardMapAttention,
)
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions, PointPositions, SineMLPPositionEncoder, SinePositionEncoder
from anchordetr.layers.queries import Queries

ENCODER = SineMLPPositionEncoder(16)


def a_map(batch: int, height: int, width: int, shift: Tensor | None = None) -> Memory:
    shift = torch.zeros(2) if shift is None else shift
    columns = ((torch.arange(width) + 0.5) / width)[None] + shift[0]
    rows = ((torch.arange(height) + 0.5) / height)[None] + shift[1]
    return Memory(torch.randn(batch, height, width, 16), MapPositions(columns, rows, ENCODER), ENCODER)


def queries_at(points: Tensor, content: Tensor) -> Queries:
    return Queries(content, PointPositions(points, ENCODER), points, num_anchors=points.shape[1])


@pytest.mark.parametrize("kind", [RotaryMapAttention, RowColumnMapAttention])
def test_self_attention_is_attention_from_the_centers_of_the_locations(kind: type[nn.Module]) -> None:
    attention, memory = kind(16, 2), a_map(2, 3, 5)
    from_map = attention(memory, memory)
    from_points = attention(queries_at(memory.positions.points.flatten(1, 2), memory.values.flatten(1, 2)), memory)
    torch.testing.assert_close(from_map.flatten(1, 2), from_points)


def test_standard_attention_reads_values_without_positions() -> None:
    attention, memory = StandardMapAttention(16, 2), a_map(1, 3, 5)
    queries = queries_at(torch.rand(1, 4, 2), torch.randn(1, 4, 16))
    constant = memory.with_values(torch.ones_like(memory.values))
    found = attention(queries, constant)
    weight, bias = attention.attention.in_proj_weight[32:], attention.attention.in_proj_bias[32:]
    expected = attention.attention.out_proj(weight.sum(dim=1) + bias)  # a mean of equal values is each of them
    torch.testing.assert_close(found, expected.expand_as(found))


def test_rotary_attention_depends_on_distances_alone() -> None:
    attention, points, content = RotaryMapAttention(16, 2), torch.rand(1, 4, 2) / 2, torch.randn(1, 4, 16)
    memory, shift = a_map(1, 3, 5), torch.tensor([0.3, 0.1])
    here = attention(queries_at(points, content), memory)
    shifted = Memory(memory.values, a_map(1, 3, 5, shift).positions, ENCODER)
    there = attention(queries_at(points + shift, content), shifted)
    torch.testing.assert_close(there, here, atol=1e-5, rtol=0)
    for direction in torch.eye(2):
        moved = attention(queries_at(points + 0.3 * direction, content), memory)
        assert (moved - here).abs().max() > 1e-3


def test_rotary_attention_encodes_no_position() -> None:
    class Refusing(SinePositionEncoder):
        def encode_1d(self, coordinate: Tensor) -> Tensor:
            raise AssertionError("rotary attention needs no encoding")

        encode_2d = encode_1d

    refusing, memory = Refusing(16), a_map(1, 3, 5)
    memory = Memory(memory.values, MapPositions(memory.positions.columns, memory.positions.rows, refusing), refusing)
    assert RotaryMapAttention(16, 2)(memory, memory).shape == (1, 3, 5, 16)


def test_levels_are_attended_one_by_one_and_joined_by_a_linear_layer() -> None:
    memory = a_map(4, 3, 5)
    levels = Memory(memory.values, memory.positions, ENCODER, levels=2)
    queries = queries_at(torch.rand(1, 3, 2), torch.randn(2, 3, 16))
    attention, merge = RowColumnMapAttention(16, 2), nn.Linear(32, 16)
    found = MultiLevelAttention(attention=attention, merge=merge)(queries, levels)
    parts = [attention(queries, Memory(memory.values[level::2], memory.positions, ENCODER)) for level in range(2)]
    torch.testing.assert_close(found, merge(torch.stack(parts, dim=-1).flatten(2)))

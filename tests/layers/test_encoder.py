"""Encoder layers over maps, and between levels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anchordetr.layers.encoder import EncoderLayer, LevelEncoderLayer
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions, SinePositionEncoder

ENCODER = SinePositionEncoder(16)
POSITIONS = MapPositions((torch.arange(5)[None] + 0.5) / 5, (torch.arange(3)[None] + 0.5) / 3, ENCODER)


class Same(nn.Module):
    """A map attention that returns the queries."""

    def forward(self, query: Memory, memory: Memory) -> Tensor:
        return query.values


def test_levels_attend_to_those_of_their_own_image_and_location() -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    layer = LevelEncoderLayer(attention=attention, feed_forward=nn.Identity(), norm=nn.Identity())
    values, embedding = torch.randn(4, 3, 5, 16), torch.randn(2, 16)
    found = layer(Memory(values, POSITIONS, ENCODER, levels=2), embedding).values
    for image in range(2):
        levels = values[2 * image : 2 * image + 2]
        alone = layer(Memory(levels, POSITIONS, ENCODER, levels=2), embedding).values
        torch.testing.assert_close(found[2 * image : 2 * image + 2], alone)
        here = levels[:, 1, 4][None]  # (1, G, C)
        attended = attention(here + embedding, here + embedding, here)[0]
        torch.testing.assert_close(alone[:, 1, 4], (here + attended)[0])


def test_dropout_drops_what_the_attention_adds() -> None:
    layer = EncoderLayer(attention=Same(), feed_forward=nn.Identity(), norm=nn.Identity(), dropout=0.5)
    values = torch.ones(1, 3, 5, 16)
    memory = Memory(values, POSITIONS, ENCODER)
    assert layer.train()(memory).values.unique().tolist() == [1.0, 3.0]
    assert torch.equal(layer.eval()(memory).values, 2 * values)

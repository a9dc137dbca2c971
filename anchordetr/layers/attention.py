"""Attention from queries to a feature map: ``attention(query, memory)`` for every kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anchordetr.layers.box_bias import BoxBias
from anchordetr.layers.heads import boxes_at
from anchordetr.layers.memory import Memory
from anchordetr.layers.queries import Queries
from anchordetr.rcda import RowColumnAttention
from anchordetr.rcda.rotary import RotaryPositions
from anchordetr.registry import ATTENTIONS


@ATTENTIONS.register("rcda")
class RowColumnMapAttention(nn.Module):
    """Row-column decoupled attention with encoded positions (Anchor DETR, section 3.4).

    Args:
        embed_dim: C. num_heads: M, which must divide C.
        dropout: probability of dropping attention weights in training.
        box_bias: biases from the boxes of queries; none if not given.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, box_bias: BoxBias | None = None) -> None:
        super().__init__()
        self.attention = RowColumnAttention(embed_dim, num_heads, dropout)
        self.box_bias = box_bias

    def forward(self, query: Queries | Memory, memory: Memory) -> Tensor:
        """Attend to a map.

        Args:
            query: N queries, or the memory itself for self-attention.
            memory: values (B, H, W, C).

        Returns:
            (B, N, C), or (B, H, W, C) for a memory.
        """
        pos_x, pos_y = query.positions.x, query.positions.y
        if isinstance(query, Memory):
            pos_x, pos_y = pos_x.unsqueeze(1), pos_y.unsqueeze(2)
        output: Tensor = self.attention(
            query.values,
            memory.values,
            pos_x,
            pos_y,
            memory.positions.x,
            memory.positions.y,
            memory.valid_x,
            memory.valid_y,
            means=(memory.column_means, memory.row_means),
            **_biases(self.box_bias, query, memory),
        )
        return output


@ATTENTIONS.register("rcda_rotary")
class RotaryMapAttention(nn.Module):
    """Row-column decoupled attention with rotary positions, computed from coordinates instead of encodings.

    Arguments are those of :class:`RowColumnMapAttention`; C / M must be even.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, box_bias: BoxBias | None = None) -> None:
        super().__init__()
        self.attention = RowColumnAttention(embed_dim, num_heads, dropout)
        self.box_bias = box_bias
        self.rotary = RotaryPositions(embed_dim // num_heads)

    def forward(self, query: Queries | Memory, memory: Memory) -> Tensor:
        """Attend to a map; arguments and result as for :class:`RowColumnMapAttention`."""
        points = query.positions.points.flatten(1, -2)
        output: Tensor = self.attention(
            query.values,
            memory.values,
            mask_x=memory.valid_x,
            mask_y=memory.valid_y,
            rotate=self.rotary.between(points, memory.positions.columns, memory.positions.rows),
            means=(memory.column_means, memory.row_means),
            **_biases(self.box_bias, query, memory),
        )
        return output


@ATTENTIONS.register("standard")
class StandardMapAttention(nn.Module):
    """Multi-head attention over all locations of the map, as in DETR.

    Arguments are those of :class:`RowColumnMapAttention`.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)

    def forward(self, query: Queries | Memory, memory: Memory) -> Tensor:
        """Attend to a map; arguments and result as for :class:`RowColumnMapAttention`."""
        padding = None
        if memory.valid_x is not None and memory.valid_y is not None:
            padding = ~(memory.valid_y[:, :, None] & memory.valid_x[:, None, :]).flatten(1)
        q = (query.values + query.positions.joint).flatten(1, -2)
        k = (memory.values + memory.positions.joint).flatten(1, 2)
        output, _ = self.attention(q, k, memory.values.flatten(1, 2), key_padding_mask=padding, need_weights=False)
        return output.view_as(query.values)


def _biases(box_bias: BoxBias | None, query: Queries | Memory, memory: Memory) -> dict[str, Tensor]:
    """Return the biases of row-column attention from the boxes of queries; none for a memory's self-attention."""
    if box_bias is None or isinstance(query, Memory):
        return {}
    bias_x, bias_y = box_bias(boxes_at(query.references), memory.positions.columns, memory.positions.rows)
    return {"bias_x": bias_x.to(memory.values.dtype), "bias_y": bias_y.to(memory.values.dtype)}


class MultiLevelAttention(nn.Module):
    """Attention from queries to each of G levels, whose outputs are fused by one linear layer.

    Args:
        attention: a map attention, shared by the levels.
        merge: linear layer from C·G to C channels; input ``c·G + g`` is channel c of level g.
    """

    def __init__(self, *, attention: nn.Module, merge: nn.Linear) -> None:
        super().__init__()
        self.attention = attention
        self.merge = merge

    def forward(self, query: Queries, memory: Memory) -> Tensor:
        """N queries, values (B·G, H, W, C) -> (B, N, C)."""
        outputs = torch.stack([self.attention(query, level) for level in memory.by_level], dim=-1)
        output: Tensor = self.merge(outputs.flatten(2))
        return output

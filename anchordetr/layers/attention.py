"""Attention from queries to a feature map, one calling convention for every kind.

A map attention is called ``attention(query, memory, query_pos, memory_pos, mask_x, mask_y)``. Its class attribute
``joint_position`` says whether it reads ``memory_pos.xy``.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from anchordetr.layers.position import Positions
from anchordetr.rcda import RowColumnAttention
from anchordetr.rcda.rotary import RotaryPositions
from anchordetr.registry import ATTENTIONS


@ATTENTIONS.register("rcda")
class RowColumnMapAttention(nn.Module):
    """Row-column decoupled attention on encoded positions."""

    joint_position: ClassVar[bool] = False

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = RowColumnAttention(embed_dim, num_heads, dropout)

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        query_pos: Positions,
        memory_pos: Positions,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
    ) -> Tensor:
        """Attend to a map.

        Args:
            query: (B, N, C) with query_pos of N points, or (B, H, W, C) with query_pos of a map.
            memory: (B, H, W, C) with memory_pos of a map.
            mask_x: (B, W), mask_y: (B, H): boolean, True = valid location.

        Returns:
            A tensor of the shape of ``query``.
        """
        pos_x, pos_y = query_pos.x, query_pos.y
        if query.ndim == 4:
            pos_x, pos_y = pos_x.unsqueeze(1), pos_y.unsqueeze(2)
        return self.attention(query, memory, pos_x, pos_y, memory_pos.x, memory_pos.y, mask_x, mask_y)


@ATTENTIONS.register("rcda_rotary")
class RotaryMapAttention(nn.Module):
    """Row-column decoupled attention that knows places by rotary positions alone; it reads ``points`` of positions."""

    joint_position: ClassVar[bool] = False

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = RowColumnAttention(embed_dim, num_heads, dropout)
        self.rotary = RotaryPositions(embed_dim // num_heads)

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        query_pos: Positions,
        memory_pos: Positions,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
    ) -> Tensor:
        """Arguments as of :class:`RowColumnMapAttention`."""
        locations = memory_pos.coordinates
        turn = self.rotary.between(query_pos.coordinates.flatten(1, -2), locations[:, 0, :, 0], locations[:, :, 0, 1])
        return self.attention(query, memory, mask_x=mask_x, mask_y=mask_y, turn=turn)


@ATTENTIONS.register("standard")
class StandardMapAttention(nn.Module):
    """Multi-head attention over all locations of the map; arguments as :class:`RowColumnMapAttention`."""

    joint_position: ClassVar[bool] = True

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        query_pos: Positions,
        memory_pos: Positions,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
    ) -> Tensor:
        """Attend to a map: query (B, N, C) or (B, H, W, C), memory (B, H, W, C) -> shape of ``query``."""
        padding = None
        if mask_x is not None and mask_y is not None:
            padding = ~(mask_y[:, :, None] & mask_x[:, None, :]).flatten(1)
        q = (query + query_pos.joint).flatten(1, -2)
        k = (memory + memory_pos.joint).flatten(1, 2)
        output, _ = self.attention(q, k, memory.flatten(1, 2), key_padding_mask=padding, need_weights=False)
        return output.view_as(query)


class MultiLevelAttention(nn.Module):
    """Attend from queries to each of G levels and fuse the answers with one linear layer.

    Args:
        attention: a map attention, shared by the levels.
        fuse: linear layer from C·G to C channels, the level fastest.
    """

    def __init__(self, *, attention: nn.Module, fuse: nn.Linear) -> None:
        super().__init__()
        self.attention = attention
        self.fuse = fuse

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        query_pos: Positions,
        memory_pos: Positions,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
    ) -> Tensor:
        """query (B, N, C), memory (B·G, H, W, C), masks (B·G, ...) -> (B, N, C)."""
        levels = len(memory) // len(query)
        repeated = query.repeat_interleave(levels, dim=0)
        answers = self.attention(repeated, memory, query_pos.repeated(levels), memory_pos, mask_x, mask_y)
        return self.fuse(answers.unflatten(0, (-1, levels)).permute(0, 2, 3, 1).flatten(2))

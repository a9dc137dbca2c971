"""Rotary positions for row-column attention: queries and keys rotated in proportion to their coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Rotate = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]


class RotaryPositions(nn.Module):
    """Rotary positions of one axis (RoFormer, Su et al., arXiv 2104.09864) at coordinates in [0, 1].

    Channel ``i`` and channel ``i + D/2`` are a point of a plane that is rotated by ``2π · f_i · coordinate``. The
    product of a query and a key then depends on their coordinates through the difference alone. With two axes (Heo et
    al., ECCV 2024, arXiv 2403.13298) row-column attention has a product for each: queries and keys of q_x·k_x
    rotate with x, those of q_y·k_y with y.

    The D/2 frequencies ``f_i`` form a geometric series. The lowest one makes a quarter of a turn over the image, so
    that its part of the product falls with the distance all the way. The highest one makes eight: neighbours are 69
    degrees apart on a map of 42 locations, and the fastest turns alias only on maps of fewer than 16 locations.

    Args:
        depth: channels per head D, even.
        lowest, highest: turns over the length of an image.

    Raises:
        ValueError: ``depth`` is odd.
    """

    def __init__(self, depth: int, lowest: float = 0.25, highest: float = 8.0) -> None:
        super().__init__()
        if depth % 2:
            raise ValueError(f"Rotary positions rotate pairs of channels; give an even number per head, not {depth}.")
        self.depth = depth
        self.lowest = lowest
        self.highest = highest

    def forward(self, features: Tensor, coordinate: Tensor) -> Tensor:
        """Rotate (B, M, S, D) by coordinates (B, S) or (1, S) in [0, 1]; angles are computed in float32."""
        share = torch.linspace(0.0, 1.0, self.depth // 2, dtype=torch.float32, device=coordinate.device)
        turns = self.lowest * (self.highest / self.lowest) ** share
        angle = (2 * math.pi) * coordinate.float()[:, None, :, None] * turns
        cos, sin = angle.cos().to(features.dtype), angle.sin().to(features.dtype)
        first, second = features.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)

    def between(self, query_points: Tensor, memory_x: Tensor, memory_y: Tensor) -> Rotate:
        """Return the ``rotate`` of :class:`~anchordetr.rcda.RowColumnAttention` for these coordinates.

        Args:
            query_points: (B, N, 2) x, y in [0, 1]; all locations, row by row, where the query is a map.
            memory_x: (B, W), memory_y: (B, H): coordinates of columns and rows. B may be 1 everywhere.
        """
        x, y = query_points.unbind(-1)
        return lambda q_x, q_y, k_x, k_y: (self(q_x, x), self(q_y, y), self(k_x, memory_x), self(k_y, memory_y))

    def extra_repr(self) -> str:
        return f"depth={self.depth}, lowest={self.lowest}, highest={self.highest}"

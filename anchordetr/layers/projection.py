"""From the backbone's maps to the memory: projection to C channels, group norm, and levels of one size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anchordetr.layers.backbone import PaddedMap
from anchordetr.layers.memory import Memory, ValidArea
from anchordetr.layers.norm import MaskedGroupNorm
from anchordetr.layers.position import SinePositionEncoder


class Projection(nn.Module):
    """Base class of projections: makes the memory, with its positions, of projected maps.

    Args:
        key_encoder: position encoder of the map.
        query_encoder: position encoder of query points; None shares ``key_encoder``, as the paper does.
    """

    def __init__(self, *, key_encoder: SinePositionEncoder, query_encoder: SinePositionEncoder | None = None) -> None:
        super().__init__()
        self.key_encoder = key_encoder
        self.query_encoder = query_encoder

    def to_memory(self, maps: Sequence[Tensor], valid: ValidArea) -> Memory:
        """Stack G maps (B, C, H, W), one per level, to a memory with values (B·G, H, W, C) and their positions."""
        levels = len(maps)
        values = maps[0] if levels == 1 else torch.stack(list(maps), dim=1).flatten(0, 1)
        area = valid.repeated(levels)
        positions = area.positions(self.key_encoder, values.dtype)
        point_encoder = self.query_encoder or self.key_encoder
        return Memory(values.permute(0, 2, 3, 1), positions, point_encoder, *area.masks, levels=levels)


class InputProjection(Projection):
    """A convolution and a group norm per level, to C channels and the size of the last level.

    Args:
        channels: of the backbone's maps. strides: of the backbone's maps; a level of half the last one's stride
            is reduced by a 3×3 convolution of stride 2, all others keep their size.
        key_encoder, query_encoder: as for :class:`Projection`, with C channels.
        num_groups: groups of each norm; must divide C.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        key_encoder: SinePositionEncoder,
        query_encoder: SinePositionEncoder | None = None,
        num_groups: int = 32,
    ) -> None:
        super().__init__(key_encoder=key_encoder, query_encoder=query_encoder)
        embed_dim = key_encoder.embed_dim
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, embed_dim, kernel_size=3, stride=2, padding=1)
            if stride < strides[-1]
            else nn.Conv2d(width, embed_dim, kernel_size=1)
            for width, stride in zip(channels, strides, strict=True)
        )
        self.norms = nn.ModuleList(MaskedGroupNorm(num_groups, embed_dim) for _ in channels)

    def forward(self, maps: Sequence[PaddedMap]) -> Memory:
        """Project one :class:`PaddedMap` per level."""
        projected = [convolution(level.features) for convolution, level in zip(self.convolutions, maps, strict=True)]
        valid = ValidArea.of(maps[-1].sizes, projected[-1].shape[-2:], projected[-1].device)
        normed = [norm(level, *valid.masks) for norm, level in zip(self.norms, projected, strict=True)]
        return self.to_memory(normed, valid)

"""Feature fusion: several backbone maps summed into one, so that encoder and attention see a single map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anchordetr.layers.backbone import PaddedMap, Size
from anchordetr.layers.memory import Memory, ValidArea
from anchordetr.layers.norm import MaskedGroupNorm
from anchordetr.layers.position import SinePositionEncoder
from anchordetr.layers.projection import Projection


class FeatureFusion(Projection):
    """Levels brought to C channels and one size, summed, smoothed and normalised.

    The sum of a feature pyramid (Lin et al., CVPR 2017, arXiv 1612.03144) with one output level only. Finer levels are
    averaged over each location of the output, coarser levels are upsampled by repetition. A depthwise 3×3 and a
    pointwise convolution smooth the sum. Padded locations are ignored.

    Args:
        channels: of the backbone's maps. strides: of the backbone's maps, each a multiple or a divisor of ``stride``.
        stride: of the output, one of ``strides``.
        key_encoder, query_encoder: as for :class:`Projection`, with C channels.
        num_groups: groups of the norm; must divide C.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        stride: int,
        key_encoder: SinePositionEncoder,
        query_encoder: SinePositionEncoder | None = None,
        num_groups: int = 32,
    ) -> None:
        super().__init__(key_encoder=key_encoder, query_encoder=query_encoder)
        embed_dim = key_encoder.embed_dim
        self.strides = tuple(strides)
        self.stride = stride
        self.laterals = nn.ModuleList(nn.Conv2d(width, embed_dim, kernel_size=1, bias=False) for width in channels)
        self.depthwise = nn.Conv2d(embed_dim, embed_dim, kernel_size=3, padding=1, groups=embed_dim, bias=False)
        self.pointwise = nn.Conv2d(embed_dim, embed_dim, kernel_size=1)
        self.norm = MaskedGroupNorm(num_groups, embed_dim)

    def forward(self, maps: Sequence[PaddedMap]) -> Memory:
        """Fuse one :class:`PaddedMap` per level."""
        target = maps[self.strides.index(self.stride)]
        height, width = target.features.shape[-2:]
        levels = [
            self._resized(level, lateral, stride, (height, width))
            for level, lateral, stride in zip(maps, self.laterals, self.strides, strict=True)
        ]
        valid = ValidArea.of(target.sizes, (height, width), target.features.device)
        total = torch.stack(levels).sum(dim=0)
        if valid.is_padded:
            total = total * valid.map(total)
        return self.to_memory([self.norm(self.pointwise(self.depthwise(total)), *valid.masks)], valid)

    def _resized(self, level: PaddedMap, lateral: nn.Module, stride: int, size: Size) -> Tensor:
        """Project a level and bring it to the output's size; (B, C, H, W)."""
        features = level.features
        area = ValidArea.of(level.sizes, features.shape[-2:], features.device)
        valid = area.map(features) if area.is_padded else None
        if valid is not None:
            features = features * valid
        if stride < self.stride:
            features = lateral(_mean_of_windows(features, valid, self.stride // stride))
        else:
            features = F.interpolate(lateral(features), scale_factor=float(stride // self.stride), mode="nearest")
        return F.pad(features, (0, size[1] - features.shape[-1], 0, size[0] - features.shape[-2]))


def _mean_of_windows(features: Tensor, valid: Tensor | None, side: int) -> Tensor:
    """Average windows of ``side`` × ``side`` locations over the valid ones; the values of the others must be zero."""
    means = F.avg_pool2d(features, side, ceil_mode=True)
    if valid is None:
        return means
    return means / F.avg_pool2d(valid, side, ceil_mode=True).clamp(min=torch.finfo(valid.dtype).eps)

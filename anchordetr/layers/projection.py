"""From the backbone's maps to the transformer's: one width, group norm, several levels of one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anchordetr.layers.backbone import PaddedMap, Size
from anchordetr.layers.norm import MaskedGroupNorm


class FeatureMap(NamedTuple):
    """The transformer's view of a batch.

    Attributes:
        values: (B·G, H, W, C), the G levels of an image side by side.
        mask_x, mask_y: boolean, True = valid; (B·G, W) and (B·G, H), or (1, W) and (1, H) where nothing is padded.
        levels: G.
        is_padded: whether any location is not valid.
    """

    values: Tensor
    mask_x: Tensor
    mask_y: Tensor
    levels: int
    is_padded: bool

    @property
    def attention_masks(self) -> tuple[Tensor | None, Tensor | None]:
        """The masks, or None twice where nothing is padded."""
        return (self.mask_x, self.mask_y) if self.is_padded else (None, None)


class InputProjection(nn.Module):
    """A convolution and a group norm per level, to C channels and the size of the last level.

    Args:
        channels: of the backbone's maps. strides: of the backbone's maps; a level of half the last one's stride
            is reduced by a 3×3 convolution of stride 2, all others keep their size.
        embed_dim: C, a multiple of ``num_groups``.
    """

    def __init__(
        self, *, channels: Sequence[int], strides: Sequence[int], embed_dim: int, num_groups: int = 32
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, embed_dim, kernel_size=3, stride=2, padding=1)
            if stride < strides[-1]
            else nn.Conv2d(width, embed_dim, kernel_size=1)
            for width, stride in zip(channels, strides, strict=True)
        )
        self.norms = nn.ModuleList(MaskedGroupNorm(num_groups, embed_dim) for _ in channels)

    def forward(self, maps: Sequence[PaddedMap]) -> FeatureMap:
        """Project one :class:`PaddedMap` per level."""
        projected = [convolution(level.features) for convolution, level in zip(self.convolutions, maps, strict=True)]
        height, width = projected[-1].shape[-2:]
        mask_x, mask_y, is_padded = valid_locations(maps[-1].sizes, (height, width), projected[-1].device)
        masks = (mask_x, mask_y) if is_padded else (None, None)
        normed = [norm(level, *masks) for norm, level in zip(self.norms, projected, strict=True)]
        levels = len(normed)
        if is_padded:
            mask_x, mask_y = (mask.repeat_interleave(levels, dim=0) for mask in (mask_x, mask_y))
        values = torch.stack(normed, dim=1).flatten(0, 1).permute(0, 2, 3, 1)
        return FeatureMap(values, mask_x, mask_y, levels, is_padded)


def valid_locations(sizes: Sequence[Size], size: Size, device: torch.device) -> tuple[Tensor, Tensor, bool]:
    """Return ``mask_x``, ``mask_y`` and ``is_padded`` of :class:`FeatureMap` for images inside a map of ``size``."""
    is_padded = any(own != size for own in sizes)
    valid = torch.tensor(sizes if is_padded else sizes[:1], device=device)
    mask_y = torch.arange(size[0], device=device) < valid[:, :1]
    mask_x = torch.arange(size[1], device=device) < valid[:, 1:]
    return mask_x, mask_y, is_padded

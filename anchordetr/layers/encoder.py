"""The encoder: self-attention over feature maps, and between levels where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from torch import Tensor, nn

from anchordetr.layers.position import Positions


class EncoderLayer(nn.Module):
    """Self-attention over the locations of each map, then a feed-forward part; post-norm.

    Args:
        attention: a map attention (see ``layers/attention.py``).
        feed_forward: module (..., C) -> (..., C) with its own residual connection.
        norm: normalisation after the attention.
        dropout: probability of dropping the attention's answer in training.
    """

    def __init__(self, *, attention: nn.Module, feed_forward: nn.Module, norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = attention
        self.norm = norm
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = feed_forward

    def forward(self, memory: Tensor, positions: Positions, mask_x: Tensor | None, mask_y: Tensor | None) -> Tensor:
        """(B, H, W, C), masks (B, W) and (B, H) with True = valid -> (B, H, W, C)."""
        answer = self.attention(memory, memory, positions, positions, mask_x, mask_y)
        return self.feed_forward(self.norm(memory + self.dropout(answer)))


class LevelEncoderLayer(nn.Module):
    """Self-attention between the levels at each location, then a feed-forward part; post-norm.

    Args:
        attention: ``nn.MultiheadAttention`` with ``batch_first=True``.
        feed_forward, norm, dropout: as in :class:`EncoderLayer`.
    """

    def __init__(
        self, *, attention: nn.MultiheadAttention, feed_forward: nn.Module, norm: nn.Module, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = attention
        self.norm = norm
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = feed_forward

    def forward(self, memory: Tensor, level_embedding: Tensor) -> Tensor:
        """memory (B·G, H, W, C), level_embedding (G, C) -> (B·G, H, W, C)."""
        height, width = memory.shape[1:3]
        locations = memory.unflatten(0, (-1, len(level_embedding))).permute(0, 2, 3, 1, 4).flatten(0, 2)
        keys = locations + level_embedding
        answer, _ = self.attention(keys, keys, locations, need_weights=False)
        locations = self.feed_forward(self.norm(locations + self.dropout(answer)))
        return locations.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2, 4).flatten(0, 1)


class Encoder(nn.Module):
    """Encoder layers one after the other; with several levels, a level layer follows each of the first ones.

    Args:
        layers: :class:`EncoderLayer` modules.
        level_layers: :class:`LevelEncoderLayer` modules, at most as many.
        level_embedding: ``nn.Embedding(G, C)`` that the level layers share; None with one level.
    """

    def __init__(
        self,
        *,
        layers: Sequence[nn.Module],
        level_layers: Sequence[nn.Module] = (),
        level_embedding: nn.Embedding | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.level_layers = nn.ModuleList(level_layers)
        self.level_embedding = level_embedding

    def forward(self, memory: Tensor, positions: Positions, mask_x: Tensor | None, mask_y: Tensor | None) -> Tensor:
        """(B·G, H, W, C), masks (B·G, W) and (B·G, H) with True = valid -> (B·G, H, W, C)."""
        for layer, level_layer in zip_longest(self.layers, self.level_layers):
            memory = layer(memory, positions, mask_x, mask_y)
            if level_layer is not None and self.level_embedding is not None:
                memory = level_layer(memory, self.level_embedding.weight)
        return memory

"""The encoder: self-attention over feature maps, and between levels where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from torch import Tensor, nn

from anchordetr.layers.memory import Memory


class EncoderLayer(nn.Module):
    """Self-attention over the locations of each map, then a feed-forward network; post-norm.

    Args:
        attention: a map attention (see ``layers/attention.py``).
        feed_forward: module (..., C) -> (..., C) with its own residual connection.
        norm: normalisation after the attention.
        dropout: probability of dropping the attention's output in training.
    """

    def __init__(self, *, attention: nn.Module, feed_forward: nn.Module, norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = attention
        self.norm = norm
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = feed_forward

    def forward(self, memory: Memory) -> Memory:
        """Update values (B·G, H, W, C)."""
        attended = self.attention(memory, memory)
        return memory.with_values(self.feed_forward(self.norm(memory.values + self.dropout(attended))))


class LevelEncoderLayer(nn.Module):
    """Self-attention between the levels at each location, then a feed-forward network; post-norm.

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

    def forward(self, memory: Memory, level_embedding: Tensor) -> Memory:
        """Update values (B·G, H, W, C) with the embeddings (G, C) of the levels."""
        height, width = memory.values.shape[1:3]
        locations = memory.values.unflatten(0, (-1, memory.levels)).permute(0, 2, 3, 1, 4).flatten(0, 2)
        keys = locations + level_embedding
        attended, _ = self.attention(keys, keys, locations, need_weights=False)
        locations = self.feed_forward(self.norm(locations + self.dropout(attended)))
        return memory.with_values(locations.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2, 4).flatten(0, 1))


class Encoder(nn.Module):
    """A stack of encoder layers; with several levels, each of the first ones is followed by a level layer.

    Args:
        layers: :class:`EncoderLayer` modules.
        level_layers: :class:`LevelEncoderLayer` modules, at most as many as ``layers``.
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

    def forward(self, memory: Memory) -> Memory:
        """Refine values (B·G, H, W, C)."""
        for layer, level_layer in zip_longest(self.layers, self.level_layers):
            memory = layer(memory)
            if level_layer is not None and self.level_embedding is not None:
                memory = level_layer(memory, self.level_embedding.weight)
        return memory

"""The decoder: queries attend to each other, then to the memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anchordetr.layers.heads import Decoded, Heads, boxes_at
from anchordetr.layers.memory import Memory
from anchordetr.layers.queries import Queries


class DecoderLayer(nn.Module):
    """Self-attention between queries, map attention to the memory, a feed-forward network; post-norm.

    Args:
        self_attention: ``nn.MultiheadAttention`` with ``batch_first=True``.
        cross_attention: a map attention (see ``layers/attention.py``).
        feed_forward: module (..., C) -> (..., C) with its own residual connection.
        self_norm, cross_norm: normalisations after the two attentions.
        dropout: probability of dropping an attention's output in training.
    """

    def __init__(
        self,
        *,
        self_attention: nn.MultiheadAttention,
        cross_attention: nn.Module,
        feed_forward: nn.Module,
        self_norm: nn.Module,
        cross_norm: nn.Module,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.self_norm = self_norm
        self.cross_attention = cross_attention
        self.cross_norm = cross_norm
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = feed_forward

    def forward(self, queries: Queries, memory: Memory) -> Queries:
        """Update content (B, Q, C); queries attend to those of their own group only."""
        content = self.self_norm(queries.content + self.dropout(self._attend(queries)))
        attended = self.cross_attention(queries.with_content(content), memory)
        return queries.with_content(self.feed_forward(self.cross_norm(content + self.dropout(attended))))

    def _attend(self, queries: Queries) -> Tensor:
        keys, content, valid = queries.keys, queries.content, queries.valid
        padding = None
        if valid is not None:
            padding = (~valid & valid.any(dim=-1, keepdim=True)).flatten(0, 1)  # all padding: keep all keys
            keys, content = (values.reshape(*padding.shape, -1) for values in (keys, content))
        attended: Tensor = self.self_attention(keys, keys, content, key_padding_mask=padding, need_weights=False)[0]
        return attended if valid is None else attended.reshape(queries.content.shape)


class Decoder(nn.Module):
    """A stack of decoder layers whose queries stay at their anchors.

    The output of every layer is kept for the auxiliary losses.

    Args:
        layers: :class:`DecoderLayer` modules.
    """

    def __init__(self, *, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, queries: Queries, memory: Memory, heads: Heads) -> Decoded:
        """Return the hidden states of every layer, and references (1, B or 1, Q, 2 or 4); ``heads`` are not used."""
        queries = queries.with_content(queries.content.expand(memory.batch_size, -1, -1))
        outputs: list[Tensor] = []
        for layer in self.layers:
            queries = layer(queries, memory)
            outputs.append(queries.content)
        return Decoded(torch.stack(outputs), queries.references.unsqueeze(0))


class RefiningDecoder(nn.Module):
    """A stack of decoder layers that move the queries: the boxes of each layer are the references of the next one.

    Iterative box refinement (Deformable DETR, Zhu et al., ICLR 2021, appendix) with positions encoded again
    for each layer (DAB-DETR, Liu et al., ICLR 2022). No gradient flows through the boxes from layer to layer.

    Args:
        layers: :class:`DecoderLayer` modules, as in :class:`Decoder`.
        size_encoder: module (..., 2) -> (..., C) that encodes widths and heights; sizes are not encoded without it.
    """

    def __init__(self, *, layers: Sequence[nn.Module], size_encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.size_encoder = size_encoder

    def forward(self, queries: Queries, memory: Memory, heads: Heads) -> Decoded:
        """Return the hidden states and the references (L, B, Q, 4) of every layer; the box head refines boxes."""
        queries = queries.with_content(queries.content.expand(memory.batch_size, -1, -1))
        outputs: list[Tensor] = []
        boxes = [boxes_at(queries.references).expand(memory.batch_size, -1, -1)]
        for layer in self.layers:
            if outputs:
                boxes.append(heads.box_head(outputs[-1].float(), boxes[-1]).detach())
                queries = queries.at(boxes[-1])
            if self.size_encoder is not None:
                queries = queries.with_sizes(self.size_encoder(boxes[-1][..., 2:]))
            queries = layer(queries, memory)
            outputs.append(queries.content)
        return Decoded(torch.stack(outputs), torch.stack(boxes))

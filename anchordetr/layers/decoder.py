"""The decoder: queries attend to each other, then to the memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from anchordetr.layers.heads import boxes_at
from anchordetr.layers.position import Positions


class Decoded(NamedTuple):
    """What a decoder gives to the heads.

    Attributes:
        features: (L, B, Q, C), every layer's answer.
        references: what the boxes are offsets from: (1, Q, 2) anchors, or (L, B, Q, 4) boxes of each layer's own.
    """

    features: Tensor
    references: Tensor


class DecoderLayer(nn.Module):
    """Self-attention between queries, map attention to the memory, a feed-forward part; post-norm.

    Args:
        self_attention: ``nn.MultiheadAttention`` with ``batch_first=True``.
        cross_attention: a map attention (see ``layers/attention.py``).
        feed_forward: module (..., C) -> (..., C) with its own residual connection.
        self_norm, cross_norm: normalisations after the two attentions.
        dropout: probability of dropping an attention's answer in training.
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

    def forward(
        self,
        content: Tensor,
        query_pos: Positions,
        memory: Tensor,
        memory_pos: Positions,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Update the queries of a batch.

        Args:
            content: (B, Q, C).
            query_pos: of Q points.
            memory: (B·G, H, W, C) with memory_pos of a map and masks (B·G, W) and (B·G, H), True = valid location.
            valid: (B, groups, Q / groups) which queries are no padding; queries see those of their own group. All see
                all if not given.

        Returns:
            (B, Q, C).
        """
        content = self.self_norm(content + self.dropout(self._attend(content + query_pos.joint, content, valid)))
        answer = self.cross_attention(content, memory, query_pos, memory_pos, mask_x, mask_y)
        return self.feed_forward(self.cross_norm(content + self.dropout(answer)))

    def _attend(self, keys: Tensor, content: Tensor, valid: Tensor | None) -> Tensor:
        padding = None
        if valid is not None:
            padding = (~valid & valid.any(dim=-1, keepdim=True)).flatten(0, 1)  # a group of padding alone sees itself
            keys, content = (values.reshape(*padding.shape, -1) for values in (keys, content))
        answer, _ = self.self_attention(keys, keys, content, key_padding_mask=padding, need_weights=False)
        return answer if valid is None else answer.reshape(len(valid), -1, answer.shape[-1])


class Decoder(nn.Module):
    """Decoder layers one after the other; every layer's answer is kept for the auxiliary losses.

    ``encoder`` and ``box_head`` of a call are for decoders whose queries move; the ones here stay at their anchors.
    """

    def __init__(self, *, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        content: Tensor,
        query_pos: Positions,
        memory: Tensor,
        memory_pos: Positions,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
        encoder: Any,
        box_head: nn.Module,
        valid: Tensor | None = None,
    ) -> Decoded:
        """Let the layers read the memory.

        Args:
            content: (B, Q, C). memory: (B·G, H, W, C), with the positions of both.
            mask_x: (B·G, W), mask_y: (B·G, H): boolean, True = valid location.
            encoder: position encoder of the queries. box_head: features and references -> boxes.
            valid: as of :class:`DecoderLayer`.
        """
        answers = []
        for layer in self.layers:
            content = layer(content, query_pos, memory, memory_pos, mask_x, mask_y, valid)
            answers.append(content)
        return Decoded(torch.stack(answers), query_pos.coordinates)


class RefiningDecoder(nn.Module):
    """Decoder layers that move the queries: each layer's boxes are where the next layer looks and starts from.

    Iterative box refinement (Deformable DETR, Zhu et al., ICLR 2021, appendix) with positions that are encoded anew
    (DAB-DETR, Liu et al., ICLR 2022). No gradient flows through the boxes from layer to layer.

    Args:
        layers: as of :class:`Decoder`, with the same parameters.
    """

    def __init__(self, *, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        content: Tensor,
        query_pos: Positions,
        memory: Tensor,
        memory_pos: Positions,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
        encoder: Any,
        box_head: nn.Module,
        valid: Tensor | None = None,
    ) -> Decoded:
        """Arguments as of :class:`Decoder`; ``box_head`` is a :class:`~anchordetr.layers.heads.RefiningBoxHead`."""
        answers: list[Tensor] = []
        boxes = [boxes_at(query_pos.coordinates).expand(len(content), -1, -1)]
        for layer in self.layers:
            if answers:
                boxes.append(box_head(content.float(), boxes[-1]).detach())
                points = boxes[-1][..., :2]
                x, y, xy = encoder.of_points(points)
                query_pos = Positions(x, y, xy, points)
            content = layer(content, query_pos, memory, memory_pos, mask_x, mask_y, valid)
            answers.append(content)
        return Decoded(torch.stack(answers), torch.stack(boxes))

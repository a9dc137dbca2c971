"""Encoder and decoder for inference: few large products, and nothing twice that depends on no image.

The layers are read from the blocks of training and compute the same. Blocks of other kinds are copied as they are.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anchordetr.layers.attention import RowColumnMapAttention
from anchordetr.layers.decoder import Decoded, Decoder, DecoderLayer
from anchordetr.layers.encoder import Encoder, EncoderLayer
from anchordetr.layers.feature_fusion import FusedProjection
from anchordetr.layers.feed_forward import FeedForward
from anchordetr.layers.position import Positions, SinePositionEncoder
from anchordetr.layers.projection import InputProjection
from anchordetr.layers.queries import Queries
from anchordetr.optimize.onednn_layers import FusedConvolution, FusedLinear
from anchordetr.rcda import RowColumnAttention, rcda
from anchordetr.rcda.module import valid_mean


class ConstantQueries(nn.Module):
    """Queries that were computed once: contents and positions in ``dtype``, anchors as they were."""

    content: Tensor
    points: Tensor
    x: Tensor
    y: Tensor
    xy: Tensor
    patterns: Tensor | None

    def __init__(self, queries: Queries, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_anchors = queries.num_anchors
        self.register_buffer("content", queries.content.detach().to(dtype))
        self.register_buffer("points", queries.points.detach().clone())
        self.register_buffer("patterns", queries.patterns)
        x, y, xy = queries.positions.x, queries.positions.y, queries.positions.joint
        for name, encoding in {"x": x, "y": y, "xy": xy}.items():
            self.register_buffer(name, encoding.detach().to(dtype))

    def forward(self, encoder: nn.Module) -> Queries:
        """Return the queries of any image; ``encoder`` has nothing left to encode."""
        positions = Positions(self.x, self.y, self.xy, self.points)
        return Queries(self.content, positions, self.points, self.num_anchors, self.patterns)


class MapPositions(nn.Module):
    """A position encoder whose encodings come in ``dtype``, computed in float32."""

    def __init__(self, encoder: SinePositionEncoder | MapPositions, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.dtype = dtype

    def of_map(self, mask_x: Tensor, mask_y: Tensor, joint: bool) -> Positions:
        """Encode the locations of a map as :meth:`SinePositionEncoder.of_map` does."""
        x, y, xy, points = self.encoder.of_map(mask_x, mask_y, joint)
        return Positions(x.to(self.dtype), y.to(self.dtype), None if xy is None else xy.to(self.dtype), points)

    def of_points(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode points as :meth:`SinePositionEncoder.of_points` does."""
        x, y, xy = self.encoder.of_points(points)
        return x.to(self.dtype), y.to(self.dtype), xy.to(self.dtype)


class _FeedForward(nn.Module):
    def __init__(self, block: FeedForward) -> None:
        super().__init__()
        self.linear1 = FusedLinear(block.linear1.weight, block.linear1.bias, relu=True)
        self.linear2 = FusedLinear(block.linear2.weight, block.linear2.bias)
        self.norm = copy.deepcopy(block.norm)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(self.linear2(self.linear1(features)).add_(features))


class PreparedEncoderLayer(nn.Module):
    """:class:`EncoderLayer` with RCDA: one product for both queries and the value, keys from pooled maps."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        attention = cast(RowColumnAttention, layer.attention.attention)
        query_x, query_y, self.key_x, self.key_y, value = _split(attention)
        self.num_heads = attention.num_heads
        self.project = _side_by_side(query_x, query_y, value)
        self.query_pos_x, self.query_pos_y = query_x.weight, query_y.weight
        self.output = FusedLinear(attention.out_proj.weight, attention.out_proj.bias)
        self.norm = copy.deepcopy(layer.norm)
        self.feed_forward = prepare_feed_forward(layer.feed_forward)

    def forward(self, memory: Tensor, positions: Positions, mask_x: Tensor | None, mask_y: Tensor | None) -> Tensor:
        """(B, H, W, C), masks (B, W) and (B, H) with True = valid -> (B, H, W, C)."""
        q_x, q_y, value = self.project(memory).chunk(3, dim=-1)
        q_x = q_x + F.linear(positions.x, self.query_pos_x).unsqueeze(1)
        q_y = q_y + F.linear(positions.y, self.query_pos_y).unsqueeze(2)
        heads = rcda(
            _heads(q_x.flatten(1, 2), self.num_heads),
            _heads(q_y.flatten(1, 2), self.num_heads),
            _heads(self.key_x(valid_mean(memory, mask_y, dim=1) + positions.x), self.num_heads),
            _heads(self.key_y(valid_mean(memory, mask_x, dim=2) + positions.y), self.num_heads),
            _map_heads(value, self.num_heads),
            mask_x,
            mask_y,
        )
        answer = self.output(heads.transpose(1, 2).flatten(-2)).view_as(memory)
        return self.feed_forward(self.norm(answer.add_(memory)))


class _SelfAttention(nn.Module):
    """Attention between queries; what their positions add to queries and keys is known."""

    offset: Tensor

    def __init__(self, attention: nn.MultiheadAttention, positions: Tensor, norm: nn.Module) -> None:
        super().__init__()
        channels = attention.embed_dim
        self.num_heads = attention.num_heads
        self.project = FusedLinear(attention.in_proj_weight, attention.in_proj_bias)
        offset = F.linear(positions, attention.in_proj_weight[: 2 * channels])
        self.register_buffer("offset", F.pad(offset, (0, channels)))
        self.output = FusedLinear(attention.out_proj.weight, attention.out_proj.bias)
        self.norm = copy.deepcopy(norm)

    def forward(self, content: Tensor) -> Tensor:
        """(B, Q, C) -> (B, Q, C)."""
        projected = self.project(content).add_(self.offset)
        query, key, value = (_heads(part, self.num_heads) for part in projected.chunk(3, dim=-1))
        heads = F.scaled_dot_product_attention(query, key, value)
        return self.norm(self.output(heads.transpose(1, 2).flatten(-2)).add_(content))


class _Constant(nn.Module):
    """Stands for the first self-attention, whose contents and positions are the same for every image."""

    answer: Tensor

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.register_buffer("answer", answer)

    def forward(self, content: Tensor) -> Tensor:
        """(B, Q, C) -> (B, Q, C)."""
        return self.answer.expand(len(content), -1, -1)


class _DecoderLayer(nn.Module):
    """:class:`DecoderLayer` with RCDA to keys and values that are given."""

    offset: Tensor

    def __init__(self, layer: DecoderLayer, self_attention: nn.Module, positions: Positions) -> None:
        super().__init__()
        attention = cast(RowColumnAttention, layer.cross_attention.attention)
        query_x, query_y, *_ = _split(attention)
        self.self_attention = self_attention
        self.num_heads = attention.num_heads
        self.project = _side_by_side(query_x, query_y)
        offsets = F.linear(positions.x, query_x.weight), F.linear(positions.y, query_y.weight)
        self.register_buffer("offset", torch.cat(offsets, dim=-1))
        self.output = FusedLinear(attention.out_proj.weight, attention.out_proj.bias)
        self.norm = copy.deepcopy(layer.cross_norm)
        self.feed_forward = prepare_feed_forward(layer.feed_forward)

    def forward(
        self, content: Tensor, k_x: Tensor, k_y: Tensor, value: Tensor, mask_x: Tensor | None, mask_y: Tensor | None
    ) -> Tensor:
        """content (B, Q, C), keys (B, W, C) and (B, H, C), value (B, H, W, C) -> (B, Q, C)."""
        content = self.self_attention(content)
        q_x, q_y = self.project(content).add_(self.offset).chunk(2, dim=-1)
        q_x, q_y, k_x, k_y = (_heads(part, self.num_heads) for part in (q_x, q_y, k_x, k_y))
        heads = rcda(q_x, q_y, k_x, k_y, _map_heads(value, self.num_heads), mask_x, mask_y)
        answer = self.output(heads.transpose(1, 2).flatten(-2))
        return self.feed_forward(self.norm(answer.add_(content)))


class PreparedDecoder(nn.Module):
    """:class:`Decoder` with RCDA for fixed queries: keys and values of all layers come from one product each.

    Args:
        decoder: of :class:`DecoderLayer` modules with row-column attention.
        queries: of every image.
    """

    def __init__(self, decoder: Decoder, queries: Queries) -> None:
        super().__init__()
        content, positions = queries.content, queries.positions
        layers: list[Any] = list(copy.deepcopy(decoder.layers).eval())
        first, *others = layers
        keys = content + positions.joint
        answer, _ = first.self_attention(keys, keys, content, need_weights=False)
        constant = _Constant(first.self_norm(content + answer))
        attentions = [_SelfAttention(layer.self_attention, positions.joint, layer.self_norm) for layer in others]
        self.layers = nn.ModuleList(
            _DecoderLayer(layer, attention, positions)
            for layer, attention in zip(layers, [constant, *attentions], strict=True)
        )
        parts = zip(*(_split(layer.cross_attention.attention) for layer in layers), strict=True)
        _, _, self.keys_x, self.keys_y, self.values = (_side_by_side(*linears) for linears in parts)

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
    ) -> Decoded:
        """Arguments as of :class:`Decoder`, of which ``query_pos`` is known already; features (1, B, Q, C), float32."""
        count = len(self.layers)
        keys_x = self.keys_x(valid_mean(memory, mask_y, dim=1) + memory_pos.x).chunk(count, dim=-1)
        keys_y = self.keys_y(valid_mean(memory, mask_x, dim=2) + memory_pos.y).chunk(count, dim=-1)
        values = self.values(memory).chunk(count, dim=-1)
        for layer, k_x, k_y, value in zip(self.layers, keys_x, keys_y, values, strict=True):
            content = layer(content, k_x, k_y, value, mask_x, mask_y)
        return Decoded(content.float().unsqueeze(0), query_pos.coordinates)


class LastAnswer(nn.Module):
    """A copy of any decoder, of which only the last layer's answer is returned."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = copy.deepcopy(decoder)

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
    ) -> Decoded:
        """Arguments as of :class:`Decoder`; features (1, B, Q, C), float32."""
        answers, references = self.decoder(content, query_pos, memory, memory_pos, mask_x, mask_y, encoder, box_head)
        return Decoded(answers[-1:].float(), references[-1:])


def prepare_projection(projection: nn.Module) -> nn.Module:
    """Return a copy whose convolutions are ready for inference."""
    copied = copy.deepcopy(projection)
    if isinstance(copied, InputProjection):
        copied.convolutions = nn.ModuleList(FusedConvolution(cast(nn.Conv2d, x)) for x in copied.convolutions)
    elif isinstance(copied, FusedProjection):
        copied.laterals = nn.ModuleList(FusedConvolution(cast(nn.Conv2d, x)) for x in copied.laterals)
    return copied


def prepare_encoder(encoder: nn.Module) -> nn.Module:
    """Return a copy with prepared layers where they have row-column attention."""
    copied = copy.deepcopy(encoder)
    if isinstance(copied, Encoder):
        copied.layers = nn.ModuleList(
            PreparedEncoderLayer(cast(EncoderLayer, layer)) if _is_plain(layer, EncoderLayer, "attention") else layer
            for layer in copied.layers
        )
    return copied


def prepare_decoder(decoder: nn.Module, queries: Queries) -> nn.Module:
    """Return a decoder for these queries that gives the last layer's answer."""
    if isinstance(decoder, Decoder) and all(_is_plain(x, DecoderLayer, "cross_attention") for x in decoder.layers):
        return PreparedDecoder(decoder, queries)
    return LastAnswer(decoder)


def prepare_feed_forward(block: nn.Module) -> nn.Module:
    """Return a prepared copy of :class:`FeedForward`; of other modules a plain one."""
    return _FeedForward(block) if isinstance(block, FeedForward) else copy.deepcopy(block)


def _is_plain(layer: nn.Module, kind: type[nn.Module], attention: str) -> bool:
    """Whether a layer is exactly of this kind with exactly our row-column attention."""
    return type(layer) is kind and type(getattr(layer, attention)) is RowColumnMapAttention


def _split(attention: RowColumnAttention) -> list[FusedLinear]:
    """Return the five input projections."""
    weights, biases = attention.in_proj_weight.chunk(5), attention.in_proj_bias.chunk(5)
    return [FusedLinear(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


def _side_by_side(*linears: FusedLinear) -> FusedLinear:
    """Return one linear layer whose output holds the outputs of several."""
    return FusedLinear(torch.cat([part.weight for part in linears]), torch.cat([part.bias for part in linears]))


def _heads(features: Tensor, count: int) -> Tensor:
    """(B, N, C) -> (B, M, N, D)."""
    return features.unflatten(-1, (count, -1)).transpose(1, 2)


def _map_heads(features: Tensor, count: int) -> Tensor:
    """(B, H, W, C) -> (B, M, H, W, D)."""
    return features.unflatten(-1, (count, -1)).permute(0, 3, 1, 2, 4)

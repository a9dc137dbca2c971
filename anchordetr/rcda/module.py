"""RowColumnAttention: projections, key pooling and padding around :func:`rcda`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anchordetr.rcda.functional import rcda
from anchordetr.rcda.onednn import Linear, linear
from anchordetr.rcda.operands import Axis
from anchordetr.rcda.reference import axis_weights
from anchordetr.rcda.rotary import Rotate


class RowColumnAttention(nn.Module):
    """Multi-head row-column decoupled attention (Anchor DETR, section 3.4).

    Parameters carry the names and the layout of the original module: ``in_proj_weight`` is
    ``[query_x; query_y; key_x; key_y; value]``, each (C, C).

    Args:
        embed_dim: channels C of query, memory and output.
        num_heads: heads M; must divide ``embed_dim``.
        dropout: probability of dropping attention weights in training.
        backend: backend of :func:`rcda`.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, backend: str = "auto") -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"num_heads must divide embed_dim; got {num_heads} heads for {embed_dim} channels.")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.backend = backend
        self.in_proj_weight = nn.Parameter(torch.empty(5 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(5 * embed_dim))
        self.out_proj = Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        memory: Tensor | None = None,
        query_pos_x: Tensor | None = None,
        query_pos_y: Tensor | None = None,
        memory_pos_x: Tensor | None = None,
        memory_pos_y: Tensor | None = None,
        mask_x: Tensor | None = None,
        mask_y: Tensor | None = None,
        need_weights: bool = False,
        rotate: Rotate | None = None,
        means: tuple[Tensor, Tensor] | None = None,
        bias_x: Tensor | None = None,
        bias_y: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend from queries to a feature map.

        Args:
            query: (B, N, C), or a map (B, H, W, C).
            memory: (B, H, W, C); the query map itself if not given (self-attention).
            query_pos_x, query_pos_y: position encodings that broadcast to ``query``; none by default.
            memory_pos_x: (B, W, C) or (1, W, C). memory_pos_y: (B, H, C) or (1, H, C). None by default.
            mask_x: (B, W), mask_y: (B, H): boolean, True = valid. Keys are means over the valid locations only.
            need_weights: also return ``(a_x, a_y)``, (B, M, N, W) and (B, M, N, H), without dropout.
            rotate: function of the projected ``q_x``, ``q_y`` (B, M, N, D), ``k_x`` (B, M, W, D), ``k_y`` (B, M, H, D)
                that returns their replacements, such as :meth:`~anchordetr.rcda.rotary.RotaryPositions.between`.
            means: the memory's means over valid rows (B, W, C) and over valid columns (B, H, C), for callers that
                attend to one memory several times; computed here if not given.
            bias_x: (B, M, N, W), bias_y: (B, M, N, H): added to the logits; B and M may be 1.

        Returns:
            A tensor of the shape of ``query``, with ``need_weights`` in a tuple with the weights.

        Raises:
            ValueError: the memory, or the query in its place, is not a map, or shapes disagree.
        """
        memory = query if memory is None else memory
        if memory.ndim != 4:
            raise ValueError(f"memory must be a map (B, H, W, C); got shape {tuple(memory.shape)}.")
        if means is None:
            means = valid_mean(memory, mask_y, dim=1), valid_mean(memory, mask_x, dim=2)
        q_x, q_y, value = self._project_queries_and_value(query, memory, query_pos_x, query_pos_y)
        k_x = self._project_key(_KEY_X, means[0], memory_pos_x)
        k_y = self._project_key(_KEY_Y, means[1], memory_pos_y)
        if rotate is not None:
            q_x, q_y, k_x, k_y = rotate(q_x, q_y, k_x, k_y)
        dropout_p = self.dropout if self.training else 0.0
        heads = rcda(q_x, q_y, k_x, k_y, value, mask_x, mask_y, None, dropout_p, self.backend, bias_x, bias_y)
        output = self.out_proj(heads.transpose(1, 2).flatten(-2)).view_as(query)
        if not need_weights:
            return output
        scale = q_x.shape[-1] ** -0.5
        axes = Axis(q_x, k_x, mask_x, bias_x).within_range(scale), Axis(q_y, k_y, mask_y, bias_y).within_range(scale)
        return output, (axis_weights(axes[0], scale), axis_weights(axes[1], scale))

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, backend={self.backend!r}"

    def _project(self, features: Tensor, parts: Sequence[int], bias: bool = True) -> list[Tensor]:
        """Apply some blocks of the input projection in one product: (..., C) -> (..., C) each."""
        weight = _joined(self.in_proj_weight, parts)
        joined = linear(features, weight, _joined(self.in_proj_bias, parts) if bias else None)
        return list(joined.chunk(len(parts), dim=-1))

    def _project_queries_and_value(
        self, query: Tensor, memory: Tensor, pos_x: Tensor | None, pos_y: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, ..., C) and (B, H, W, C) -> q_x and q_y (B, M, N, D), value (B, M, H, W, D).

        In self-attention one product serves all three. Positions that repeat over queries are projected and then added.
        """
        if any(pos is not None and pos.numel() >= query.numel() for pos in (pos_x, pos_y)):
            (q_x,) = self._project(query if pos_x is None else query + pos_x, [_QUERY_X])
            (q_y,) = self._project(query if pos_y is None else query + pos_y, [_QUERY_Y])
            (value,) = self._project(memory, [_VALUE])
        else:
            if query is memory:
                q_x, q_y, value = self._project(query, [_QUERY_X, _QUERY_Y, _VALUE])
            else:
                q_x, q_y = self._project(query, [_QUERY_X, _QUERY_Y])
                (value,) = self._project(memory, [_VALUE])
            if pos_x is not None:
                q_x = q_x + self._project(pos_x, [_QUERY_X], bias=False)[0]
            if pos_y is not None:
                q_y = q_y + self._project(pos_y, [_QUERY_Y], bias=False)[0]
        q_x, q_y = self._split_heads(q_x.flatten(1, -2)), self._split_heads(q_y.flatten(1, -2))
        return q_x, q_y, value.unflatten(-1, (self.num_heads, -1)).permute(0, 3, 1, 2, 4)

    def _project_key(self, part: int, means: Tensor, pos: Tensor | None) -> Tensor:
        """Project means over one axis: (B, S, C) -> (B, M, S, D). Taking the mean and projecting commute."""
        return self._split_heads(self._project(means if pos is None else means + pos, [part])[0])

    def _split_heads(self, features: Tensor) -> Tensor:
        """(B, N, C) -> (B, M, N, D)."""
        return features.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _joined(blocks: Tensor, parts: Sequence[int]) -> Tensor:
    """Return some of the five blocks of an input projection's weight or bias."""
    chosen = [blocks.chunk(5)[part] for part in parts]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen)


_QUERY_X, _QUERY_Y, _KEY_X, _KEY_Y, _VALUE = range(5)  # blocks of in_proj_weight


def valid_mean(memory: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Return the mean of (B, H, W, C) over dim 1 or 2, where mask (B, H) or (B, W) is True; zero if it never is."""
    if mask is None:
        return memory.mean(dim) if memory.shape[dim] else memory.sum(dim)
    valid = mask.to(memory.dtype).unsqueeze(-1).unsqueeze(3 - dim)
    return (memory * valid).sum(dim) / valid.sum(dim).clamp(min=1.0)

"""RowColumnAttention: projections, key pooling and padding around :func:`rcda`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anchordetr.rcda.functional import rcda
from anchordetr.rcda.onednn import Linear, linear
from anchordetr.rcda.reference import axis_weights
from anchordetr.rcda.rotary import Turn


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
        turn: Turn | None = None,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend from queries to a feature map.

        Args:
            query: (B, N, C), or a map (B, H, W, C).
            memory: (B, H, W, C); the query map itself if not given (self-attention).
            query_pos_x, query_pos_y: position encodings that broadcast to ``query``; none by default.
            memory_pos_x: (B, W, C) or (1, W, C). memory_pos_y: (B, H, C) or (1, H, C). None by default.
            mask_x: (B, W), mask_y: (B, H): boolean, True = valid. Keys are means over the valid locations only.
            need_weights: also return ``(a_x, a_y)``, (B, M, N, W) and (B, M, N, H).
            turn: from the projected ``q_x``, ``q_y`` (B, M, N, D), ``k_x`` (B, M, W, D), ``k_y`` (B, M, H, D) to what
                takes their place, such as :meth:`~anchordetr.rcda.rotary.RotaryPositions.between`.

        Returns:
            A tensor of the shape of ``query``, and the weights if asked for.

        Raises:
            ValueError: memory is missing or not a map, or shapes disagree.
        """
        memory = query if memory is None else memory
        if memory.ndim != 4:
            raise ValueError(f"memory must be a map (B, H, W, C); got shape {tuple(memory.shape)}.")
        q_x, q_y = self._project_queries(query, query_pos_x, query_pos_y)
        k_x = self._project_key(2, memory, memory_pos_x, mask_y, pooled_dim=1)
        k_y = self._project_key(3, memory, memory_pos_y, mask_x, pooled_dim=2)
        if turn is not None:
            q_x, q_y, k_x, k_y = turn(q_x, q_y, k_x, k_y)
        value = self._project(4, memory).unflatten(-1, (self.num_heads, -1)).permute(0, 3, 1, 2, 4)
        dropout_p = self.dropout if self.training else 0.0
        heads = rcda(q_x, q_y, k_x, k_y, value, mask_x, mask_y, dropout_p=dropout_p, backend=self.backend)
        output = self.out_proj(heads.transpose(1, 2).flatten(-2)).view_as(query)
        if not need_weights:
            return output
        scale = q_x.shape[-1] ** -0.5
        return output, (axis_weights(q_x, k_x, mask_x, scale), axis_weights(q_y, k_y, mask_y, scale))

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, backend={self.backend!r}"

    def _project(self, first: int, features: Tensor, parts: int = 1, bias: bool = True) -> Tensor:
        """Apply ``parts`` consecutive blocks of the input projection: (..., C) -> (..., parts · C)."""
        rows = slice(first * self.embed_dim, (first + parts) * self.embed_dim)
        return linear(features, self.in_proj_weight[rows], self.in_proj_bias[rows] if bias else None)

    def _project_queries(self, query: Tensor, pos_x: Tensor | None, pos_y: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, ..., C) -> q_x and q_y (B, M, N, D).

        Positions that repeat over queries are projected once and then added, so that one product serves both.
        """
        positions = [pos for pos in (pos_x, pos_y) if pos is not None]
        if all(pos.numel() < query.numel() for pos in positions):
            q_x, q_y = self._project(0, query, parts=2).chunk(2, dim=-1)
            if pos_x is not None:
                q_x = q_x + self._project(0, pos_x, bias=False)
            if pos_y is not None:
                q_y = q_y + self._project(1, pos_y, bias=False)
        else:
            q_x = self._project(0, query if pos_x is None else query + pos_x)
            q_y = self._project(1, query if pos_y is None else query + pos_y)
        return self._split_heads(q_x.flatten(1, -2)), self._split_heads(q_y.flatten(1, -2))

    def _split_heads(self, features: Tensor) -> Tensor:
        """(B, N, C) -> (B, M, N, D)."""
        return features.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _project_key(
        self, part: int, memory: Tensor, pos: Tensor | None, pooled_mask: Tensor | None, pooled_dim: int
    ) -> Tensor:
        """Pool (B, H, W, C) over one axis, then project: (B, M, S, D). Pooling and projecting commute."""
        pooled = valid_mean(memory, pooled_mask, pooled_dim)
        return self._split_heads(self._project(part, pooled if pos is None else pooled + pos))


def valid_mean(memory: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Mean of (B, H, W, C) over dim 1 or 2, over the locations where mask (B, H) or (B, W) is True."""
    if mask is None:
        return memory.mean(dim)
    valid = mask.to(memory.dtype).unsqueeze(-1).unsqueeze(3 - dim)
    return (memory * valid).sum(dim) / valid.sum(dim).clamp(min=1.0)

"""The definition of RCDA: two softmaxes and two contractions. The oracle of every other backend."""

from __future__ import annotations

from torch import Tensor, einsum
from torch.nn import functional as F


def axis_logits(query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return the logits of each query over one axis, -inf where a key may not be attended.

    Args:
        query: (B, M, N, D). key: (B, M, S, D) for an axis of S rows or columns.
        mask: (B, S), True where a key may be attended.

    Returns:
        (B, M, N, S).
    """
    logits = (query * scale) @ key.transpose(-2, -1)
    return logits if mask is None else logits.masked_fill(~mask[:, None, None, :], float("-inf"))


def axis_weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return the attention of each query over one axis: arguments of :func:`axis_logits`, rows sum to 1."""
    return axis_logits(query, key, mask, scale).softmax(dim=-1)


def contract(a_x: Tensor, a_y: Tensor, value: Tensor) -> Tensor:
    """Apply row weights a_x (B, M, N, W), then column weights a_y (B, M, N, H), to value (B, M, H, W, Dv)."""
    z = einsum("bmnw,bmhwd->bmnhd", a_x, value)
    return einsum("bmnh,bmnhd->bmnd", a_y, z)


def rcda_reference(
    q_x: Tensor,
    q_y: Tensor,
    k_x: Tensor,
    k_y: Tensor,
    value: Tensor,
    mask_x: Tensor | None,
    mask_y: Tensor | None,
    scale: float,
    dropout_p: float,
) -> Tensor:
    """Compute RCDA as the paper writes it, with Z (B, M, N, H, Dv) in memory; shapes as in :func:`rcda`."""
    a_x = F.dropout(axis_weights(q_x, k_x, mask_x, scale), dropout_p)
    a_y = F.dropout(axis_weights(q_y, k_y, mask_y, scale), dropout_p)
    return contract(a_x, a_y, value)

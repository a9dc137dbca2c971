"""The definition of RCDA: two softmaxes and two contractions. The oracle of every other backend."""

from __future__ import annotations

import torch
from torch import Tensor, einsum
from torch.nn import functional as F


def axis_logits(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Return the logits of queries (B, M, N, D) over an axis of keys (B, M, S, D): (B, M, N, S)."""
    return (query * scale) @ key.transpose(-2, -1)


def axis_weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return the attention of each query over one axis.

    Args:
        query: (B, M, N, D). key: (B, M, S, D) for an axis of S rows or columns.
        mask: (B, S), True where a key may be attended.

    Returns:
        (B, M, N, S), rows sum to 1, or are zero where nothing may be attended.
    """
    logits = axis_logits(query, key, scale)
    if mask is None:
        return logits.softmax(dim=-1)
    valid = mask[:, None, None, :]
    return logits.masked_fill(~valid, float("-inf")).softmax(dim=-1).masked_fill(~valid, 0.0)


def location_mask(mask_x: Tensor | None, mask_y: Tensor | None, value: Tensor) -> Tensor | None:
    """Return which locations of value (B, M, H, W, Dv) may be attended, (B, 1, 1, H·W), or None for all of them."""
    if mask_x is None and mask_y is None:
        return None
    batch, _, height, width, _ = value.shape
    valid = torch.ones(batch, height, width, dtype=torch.bool, device=value.device)
    if mask_x is not None:
        valid = valid & mask_x[:, None, :]
    if mask_y is not None:
        valid = valid & mask_y[:, :, None]
    return valid.flatten(1)[:, None, None]


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

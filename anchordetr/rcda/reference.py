"""The definition of RCDA: two softmaxes and two contractions. All other backends are tested against it."""

from __future__ import annotations

import torch
from torch import Tensor, einsum
from torch.nn import functional as F

from anchordetr.rcda.operands import Axis, Operands


def axis_logits(query: Tensor, key: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """Return the logits of queries over one axis, in float32 or float64.

    Args:
        query: (B, M, N, D). key: (B, M, S, D) for an axis of S rows or columns.
        scale: factor of ``query · key``.
        bias: (B, M, N, S), added after the scale.

    Returns:
        (B, M, N, S).
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    logits = (query.to(dtype) * scale) @ key.to(dtype).transpose(-2, -1)
    return logits if bias is None else logits + bias


def axis_weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: float, bias: Tensor | None = None) -> Tensor:
    """Return the attention weights of queries over one axis.

    Args:
        mask: (B, S), True where a key may be attended.
        query, key, scale, bias: as for :func:`axis_logits`.

    Returns:
        (B, M, N, S) in the dtype of the queries; rows sum to 1, or are zero where nothing may be attended.
    """
    logits = axis_logits(query, key, scale, bias)
    if mask is None:
        return logits.softmax(dim=-1).to(query.dtype)
    valid = mask[:, None, None, :]
    weights = logits.masked_fill(~valid, float("-inf")).softmax(dim=-1)
    return weights.masked_fill(~valid, 0.0).to(query.dtype)


def location_mask(operands: Operands) -> Tensor | None:
    """Return which locations may be attended, (B, 1, 1, H·W), or None for all of them."""
    mask_x, mask_y = operands.x.mask, operands.y.mask
    if mask_x is None and mask_y is None:
        return None
    batch, _, height, width, _ = operands.value.shape
    valid = torch.ones(batch, height, width, dtype=torch.bool, device=operands.value.device)
    if mask_x is not None:
        valid = valid & mask_x[:, None, :]
    if mask_y is not None:
        valid = valid & mask_y[:, :, None]
    return valid.flatten(1)[:, None, None]


def contract(a_x: Tensor, a_y: Tensor, value: Tensor) -> Tensor:
    """Sum value (B, M, H, W, Dv) over columns with a_x (B, M, N, W), then over rows with a_y (B, M, N, H)."""
    z = einsum("bmnw,bmhwd->bmnhd", a_x, value)
    return einsum("bmnh,bmnhd->bmnd", a_y, z)


def rcda_reference(operands: Operands, dropout_p: float) -> Tensor:
    """Return RCDA (B, M, N, Dv) as the paper writes it, with Z (B, M, N, H, Dv) in memory."""
    a_x, a_y = (F.dropout(_weights(axis, operands.scale), dropout_p) for axis in (operands.x, operands.y))
    return contract(a_x, a_y, operands.value)


def _weights(axis: Axis, scale: float) -> Tensor:
    return axis_weights(axis.query, axis.key, axis.mask, scale, axis.bias)

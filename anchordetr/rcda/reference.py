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


def axis_weights(axis: Axis, scale: float) -> Tensor:
    """Return the attention weights of queries over one axis.

    Returns:
        (B, M, N, S) in the dtype of the queries; rows sum to 1, or are zero where nothing may be attended.
    """
    logits = axis_logits(axis.query, axis.key, scale, axis.bias)
    return softmax_where(axis.visible(), logits).to(axis.query.dtype)


def softmax_where(visible: Tensor | None, logits: Tensor) -> Tensor:
    """Return the softmax over the last dimension of what is visible, zeros elsewhere; None where all is."""
    if visible is None:
        return logits.softmax(dim=-1)
    return logits.masked_fill(~visible, float("-inf")).softmax(dim=-1).masked_fill(~visible, 0.0)


def below_maximum(logits: Tensor, visible: Tensor | None = None) -> Tensor:
    """Return logits less the largest visible one of the last dimension, so that sums keep small differences."""
    seen = logits.detach() if visible is None else logits.detach().masked_fill(~visible, float("-inf"))
    return logits - seen.amax(dim=-1, keepdim=True).nan_to_num(neginf=0.0)


def visible_locations(operands: Operands) -> Tensor | None:
    """Return which locations may be attended, which broadcasts to (B, M, N, H·W), or None for all of them."""
    x, y = operands.x.visible(), operands.y.visible()
    if x is None and y is None:
        return None
    shape = operands.value.shape[2:4]
    visible = torch.ones(shape, dtype=torch.bool, device=operands.value.device)
    if x is not None:
        visible = visible & x.unsqueeze(-2)
    if y is not None:
        visible = visible & y.unsqueeze(-1)
    return visible.flatten(-2)


def contract(a_x: Tensor, a_y: Tensor, value: Tensor) -> Tensor:
    """Sum value (B, M, H, W, Dv) over columns with a_x (B, M, N, W), then over rows with a_y (B, M, N, H)."""
    z = einsum("bmnw,bmhwd->bmnhd", a_x, value)
    return einsum("bmnh,bmnhd->bmnd", a_y, z)


def rcda_reference(operands: Operands, dropout_p: float) -> Tensor:
    """Return RCDA (B, M, N, Dv) as the paper writes it, with Z (B, M, N, H, Dv) in memory."""
    a_x, a_y = (F.dropout(axis_weights(axis, operands.scale), dropout_p) for axis in (operands.x, operands.y))
    return contract(a_x, a_y, operands.value)

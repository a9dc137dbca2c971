"""RCDA as one softmax over the locations, whose logits are sums: the fastest form on small maps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from anchordetr.rcda.operands import Axis, Operands
from anchordetr.rcda.reference import axis_logits, location_mask


def rcda_dense(operands: Operands, dropout_p: float) -> Tensor:
    """Return RCDA (B, M, N, Dv) from attention weights (B, M, N, H·W) in memory.

    A softmax over a sum separates, so this is exact. Dropout drops locations, not rows and columns.
    """
    value = operands.value.flatten(2, 3)
    logits_x, logits_y = (_below_maximum(axis, operands.scale) for axis in (operands.x, operands.y))
    logits = (logits_y.unsqueeze(-1) + logits_x.unsqueeze(-2)).flatten(-2)
    valid = location_mask(operands)
    if valid is None:
        weights = logits.softmax(dim=-1)
    else:
        weights = logits.masked_fill(~valid, float("-inf")).softmax(dim=-1).masked_fill(~valid, 0.0)
    return F.dropout(weights.to(value.dtype), dropout_p) @ value


def _below_maximum(axis: Axis, scale: float) -> Tensor:
    """Return logits (B, M, N, S) whose valid maximum is 0, so that a sum of two keeps the small differences of both."""
    logits = axis_logits(axis.query, axis.key, scale, axis.bias)
    valid = logits.detach()
    if axis.mask is not None:
        valid = valid.masked_fill(~axis.mask[:, None, None, :], float("-inf"))
    return logits - valid.amax(dim=-1, keepdim=True).nan_to_num(neginf=0.0)

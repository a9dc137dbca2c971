"""RCDA as one softmax over the locations, whose logits are sums: the fastest form on small maps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from anchordetr.rcda.operands import Axis, Operands
from anchordetr.rcda.reference import axis_logits, below_maximum, softmax_where, visible_locations


def rcda_dense(operands: Operands, dropout_p: float) -> Tensor:
    """Return RCDA (B, M, N, Dv) from attention weights (B, M, N, H·W) in memory.

    A softmax over a sum separates, so this is exact. Dropout drops locations, not rows and columns.
    """
    value = operands.value.flatten(2, 3)
    logits_x, logits_y = (_centred_logits(axis, operands.scale) for axis in (operands.x, operands.y))
    logits = (logits_y.unsqueeze(-1) + logits_x.unsqueeze(-2)).flatten(-2)
    weights = softmax_where(visible_locations(operands), logits)
    return F.dropout(weights.to(value.dtype), dropout_p) @ value


def _centred_logits(axis: Axis, scale: float) -> Tensor:
    """Return logits (B, M, N, S) whose visible maximum is 0, so that a sum of two keeps small differences."""
    logits = axis_logits(axis.query, axis.key, scale, axis.bias)
    return below_maximum(logits, axis.visible())

"""RCDA as one softmax over the locations, whose logits are sums: the fastest form on small maps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from anchordetr.rcda.reference import axis_logits, location_mask


def rcda_summed(
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
    """Compute RCDA with attention weights (B, M, N, H·W) in memory; shapes as in :func:`rcda`.

    A softmax over a sum separates, so this is exact. Dropout drops locations, not rows and columns.
    """
    logits_x = axis_logits(q_x, k_x, scale)
    logits_y = axis_logits(q_y, k_y, scale)
    logits = (logits_y.unsqueeze(-1) + logits_x.unsqueeze(-2)).flatten(-2)
    valid = location_mask(mask_x, mask_y, value)
    if valid is None:
        weights = logits.softmax(dim=-1)
    else:
        weights = logits.masked_fill(~valid, float("-inf")).softmax(dim=-1).masked_fill(~valid, 0.0)
    return F.dropout(weights, dropout_p) @ value.flatten(2, 3)

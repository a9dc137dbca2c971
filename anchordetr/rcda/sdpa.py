"""RCDA as dense attention over the H·W locations, by ``scaled_dot_product_attention``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anchordetr.rcda.operands import Operands
from anchordetr.rcda.reference import below_maximum, visible_locations


def rcda_sdpa(operands: Operands, dropout_p: float) -> Tensor:
    """Return RCDA (B, M, N, Dv), exactly, from queries and keys of 2·D channels.

    A softmax over a sum separates, so logits ``q_x·k_x[w] + q_y·k_y[h]`` over the locations give the same weights.
    Biases become ``attn_mask`` (B, M, N, H·W), in float32 at least. Dropout drops locations, not rows and columns.
    """
    bias = _location_bias(operands)
    if bias is None:
        return _attend(operands, visible_locations(operands), dropout_p)
    visible = visible_locations(operands)
    attn_mask = bias if visible is None else bias.masked_fill(~visible, float("-inf"))
    return _attend(operands.to(bias.dtype), attn_mask, dropout_p).to(operands.value.dtype)


def _attend(operands: Operands, attn_mask: Tensor | None, dropout_p: float) -> Tensor:
    (q_x, k_x, *_), (q_y, k_y, *_), value, scale = operands
    height, width = value.shape[2:4]
    query = torch.cat((q_x, q_y), dim=-1)
    keys_x = k_x.unsqueeze(2).expand(-1, -1, height, -1, -1)
    keys_y = k_y.unsqueeze(3).expand(-1, -1, -1, width, -1)
    key = torch.cat((keys_x, keys_y), dim=-1).flatten(2, 3)
    return F.scaled_dot_product_attention(
        query, key, value.flatten(2, 3), attn_mask=attn_mask, dropout_p=dropout_p, scale=scale
    )


def _location_bias(operands: Operands) -> Tensor | None:
    """Return what is added to the logits of the locations, (B, M, N, H·W), or None."""
    bias_x, bias_y, value = operands.x.bias, operands.y.bias, operands.value
    if bias_x is None and bias_y is None:
        return None
    batch, heads, height, width, _ = value.shape
    dtype = torch.promote_types(value.dtype, torch.float32)
    bias = torch.zeros((), dtype=dtype, device=value.device)
    if bias_x is not None:
        bias = bias + below_maximum(bias_x.to(dtype)).unsqueeze(-2)
    if bias_y is not None:
        bias = bias + below_maximum(bias_y.to(dtype)).unsqueeze(-1)
    return bias.expand(batch, heads, -1, height, width).flatten(-2)

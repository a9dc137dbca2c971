"""RCDA as dense attention over the H·W locations, by ``scaled_dot_product_attention``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anchordetr.rcda.reference import location_mask


def rcda_sdpa(
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
    """Compute RCDA exactly, from queries and keys of 2·D channels; shapes as in :func:`rcda`.

    A softmax over a sum separates, so logits ``q_x·k_x[w] + q_y·k_y[h]`` over the locations give the same weights.
    Dropout drops locations, not rows and columns.
    """
    height, width = value.shape[2:4]
    query = torch.cat((q_x, q_y), dim=-1)
    keys_x = k_x.unsqueeze(2).expand(-1, -1, height, -1, -1)
    keys_y = k_y.unsqueeze(3).expand(-1, -1, -1, width, -1)
    key = torch.cat((keys_x, keys_y), dim=-1).flatten(2, 3)
    valid = location_mask(mask_x, mask_y, value)
    return F.scaled_dot_product_attention(
        query, key, value.flatten(2, 3), attn_mask=valid, dropout_p=dropout_p, scale=scale
    )

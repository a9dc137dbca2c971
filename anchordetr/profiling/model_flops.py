"""Floating-point operations of whole networks."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from anchordetr.config import Config
from anchordetr.models.builders import build_model
from anchordetr.rcda import RowColumnAttention


def count_flops(config: Config) -> int:
    """Return the operations of a network for one image of ``data.short_side`` × ``data.long_side`` pixels.

    Counted are convolutions and matrix products, as ``torch.utils.flop_counter`` does: a multiplication and an addition
    are two operations. Row-column attention is counted as the paper writes it, whatever backend computes it otherwise.
    """
    model = build_model(config.model).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, RowColumnAttention):
            module.backend = "reference"
    image = torch.zeros(3, config.data.short_side, config.data.long_side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model([image])
    return int(counter.get_total_flops())

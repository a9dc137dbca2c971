"""Fusion of a network for inference: a faster copy that computes the same."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from anchordetr.layers.heads import Decoded, Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import SinePositionEncoder
from anchordetr.layers.queries import Queries
from anchordetr.optimize.fold_batch_norm import fold_backbone

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def fuse(network: Network, dtype: torch.dtype | None = None) -> Network:
    """Return a copy of a network for inference; the network stays as it is, and later changes do not reach the copy.

    Batch norm is folded into the convolutions of the backbone, every block that has a ``fuse()`` method fuses itself,
    query sources of training are gone, and only the last decoder layer predicts: logits (1, B, Q, K) and boxes
    (1, B, Q, 4) in float32. The copy stays on the network's device, and it cannot be trained.

    Args:
        network: an :class:`~anchordetr.models.anchor_detr.AnchorDETR`, of any parts.
        dtype: of weights and features, such as ``torch.bfloat16``; float32 if not given. Norms of padded maps, position
            encodings, query sources and heads are computed in float32.

    Raises:
        ValueError: ``dtype`` is not a floating-point type.
    """
    dtype = torch.float32 if dtype is None else dtype
    if not dtype.is_floating_point:
        raise ValueError(f"A network cannot run in {dtype}; use torch.float32, torch.bfloat16 or torch.float16.")
    parts: Any = network
    fused: Any = copy.copy(network)
    fused._modules = {name: copy.deepcopy(part) for name, part in network._modules.items() if name != "backbone"}
    fused.backbone = fold_backbone(parts.backbone, dtype)
    fused.training_sources = nn.ModuleDict()
    for part in (fused.projection, fused.encoder, fused.decoder):
        _cast(part, dtype)
    fused.decoder = LastLayer(fused.decoder)
    for module in list(fused.modules()):
        if hasattr(type(module), "fuse"):
            module.fuse()
    result: Network = fused.eval().requires_grad_(False)
    return result


class LastLayer(nn.Module):
    """A decoder that returns the output of its last layer only.

    Args:
        decoder: see ``layers/decoder.py``.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, queries: Queries, memory: Memory, heads: Heads) -> Decoded:
        """Return hidden states (1, B, Q, C)."""
        hidden_states, references = self.decoder(queries, memory, heads)
        return Decoded(hidden_states[-1:], references[-1:])


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Give the floating-point parameters and buffers of a module another type, but not those of position encoders."""
    if isinstance(module, SinePositionEncoder):
        return
    for value in (*module._parameters.values(), *module._buffers.values()):
        if value is not None and value.is_floating_point():
            value.data = value.data.to(dtype)
    for child in module.children():
        _cast(child, dtype)

"""Fusion of a network for inference: a faster copy that computes the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from anchordetr.layers.heads import Decoded, Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions, SinePositionEncoder
from anchordetr.layers.projection import Projection
from anchordetr.layers.queries import Queries
from anchordetr.layers.query_sources import QuerySource
from anchordetr.optimize.fold_batch_norm import fold_backbone
from anchordetr.types import Target

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def fuse(network: Network, dtype: torch.dtype | None = None) -> Network:
    """Return a copy of a network for inference; the network stays as it is, and later changes do not reach the copy.

    Batch norm is folded into the convolutions of the backbone, every block that has a ``fuse()`` method fuses itself,
    queries that depend on weights alone are computed once, query sources of training are gone, and only the last
    decoder layer predicts: logits (1, B, Q, K) and boxes (1, B, Q, 4) in float32. The copy stays on the network's
    device, and it cannot be trained.

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
    fused.eval().requires_grad_(False)
    if getattr(fused.queries, "is_constant", False):
        fused.queries = ConstantQueries(fused.queries, _empty_memory(fused.projection, dtype), fused.heads)
    result: Network = fused
    return result


class ConstantQueries(QuerySource):
    """Queries that were computed once, with their encodings.

    Args:
        source: of queries that depend on its weights alone.
        memory: any memory with the position encoder and the dtype of those to come.
        heads: of the network.
    """

    def __init__(self, source: QuerySource, memory: Memory, heads: Heads) -> None:
        super().__init__()
        self.source = source
        self.num_anchors, self.num_patterns = source.num_anchors, source.num_patterns
        self.queries: Queries = source(memory, heads)
        for encoding in ("x", "y", "joint"):
            getattr(self.queries.positions, encoding)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ConstantQueries:
        super()._apply(fn, recurse)
        self.queries = _mapped(self.queries, fn)
        return self

    def choose_anchors(self, count: int) -> Tensor:
        """Return the rows that the source chooses."""
        return self.source.choose_anchors(count)

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        """Return the queries that all images share."""
        return self.queries


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of a dataclass with a function applied to its tensors, those of nested dataclasses too."""
    if isinstance(value, Tensor):
        return function(value)
    if not is_dataclass(value):
        return value
    mapped = copy.copy(value)
    for name, part in vars(value).items():
        object.__setattr__(mapped, name, _mapped(part, function))
    return mapped


def _empty_memory(projection: Projection, dtype: torch.dtype) -> Memory:
    """Return a memory of one location."""
    encoder = projection.key_encoder
    device = next((value.device for value in projection.parameters()), None)
    center = torch.full((1, 1), 0.5, dtype=torch.float32, device=device)
    values = torch.zeros(1, 1, 1, encoder.embed_dim, dtype=dtype, device=device)
    return Memory(values, MapPositions(center, center, encoder, dtype), projection.query_encoder or encoder)


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

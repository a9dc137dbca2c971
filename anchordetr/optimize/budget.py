"""Inference with a part of a trained network's queries and decoder layers: faster, without retraining."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from anchordetr.errors import UsageError
from anchordetr.layers.heads import Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.queries import Queries
from anchordetr.layers.query_sources import QuerySource
from anchordetr.optimize.fuse import LastLayer
from anchordetr.types import Target

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Budget:
    """How much of a network is used for an image; None is all of it.

    Attributes:
        anchors: number of anchors, chosen by the query source; see ``QuerySource.choose_anchors``.
        patterns: number of first patterns; or the 0-based ids of the patterns to use.
        layers: number of first decoder layers.
    """

    anchors: int | None = None
    patterns: int | Sequence[int] | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.patterns, Sequence):
            object.__setattr__(self, "patterns", tuple(sorted(self.patterns)))


@torch.no_grad()
def apply_budget(network: Network, budget: Budget) -> Network:
    """Return a network that uses a part of another's queries and decoder layers, and shares all weights with it.

    The decoder can end after any layer, since every layer was trained to predict with the shared heads. Anchors are
    chosen by their positions at the time of the call.

    Args:
        network: an :class:`~anchordetr.models.anchor_detr.AnchorDETR`, fused or not.

    Raises:
        UsageError: the budget exceeds what the network has.
    """
    parts: Any = network
    chosen: dict[str, nn.Module] = {}
    if budget.anchors is not None or budget.patterns is not None:
        chosen["queries"] = ChosenQueries(parts.queries, budget)
    if budget.layers is not None:
        chosen["decoder"] = _first_layers(parts.decoder, budget.layers)
    return _with_parts(network, **chosen) if chosen else network


def largest_budget(network: nn.Module) -> tuple[int, int, int]:
    """Return the numbers of anchors, patterns and decoder layers of a network.

    Raises:
        UsageError: its query source is no :class:`~anchordetr.layers.query_sources.QuerySource`.
    """
    parts: Any = network
    source = _source(parts.queries)
    decoder: Any = parts.decoder.decoder if isinstance(parts.decoder, LastLayer) else parts.decoder
    return source.num_anchors, source.num_patterns, len(decoder.layers)


class ChosenQueries(QuerySource):
    """A choice among the queries that another source makes.

    Args:
        source: see ``layers/query_sources.py``.
        budget: its anchors and patterns.

    Raises:
        UsageError: the source has fewer anchors, lacks a pattern, or is not a :class:`QuerySource`.
    """

    anchors: Tensor
    patterns: Tensor

    def __init__(self, source: nn.Module, budget: Budget) -> None:
        super().__init__()
        source = _source(source)
        count = _checked("anchors", budget.anchors, source.num_anchors)
        self.source = source
        self.num_anchors = count
        chosen = _choose_patterns(budget.patterns, source.num_patterns)
        self.num_patterns = len(chosen)
        device = next((value.device for value in source.parameters()), None)
        anchors = source.choose_anchors(count)
        self.rows: list[int] = anchors.tolist()
        self.register_buffer("anchors", anchors.to(device), persistent=False)
        self.register_buffer("patterns", torch.tensor(chosen, device=device), persistent=False)

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        """Return the chosen queries, fewer where a small image has fewer than the budget."""
        queries: Queries = self.source(memory, heads, targets)
        anchors = self.anchors[: sum(row < queries.num_anchors for row in self.rows)]
        rows = (self.patterns[:, None] * queries.num_anchors + anchors).flatten()
        pattern_ids = self.patterns.clone() if queries.pattern_ids is None else queries.pattern_ids[self.patterns]
        return queries.select(rows, len(anchors), pattern_ids)


def _first_layers(decoder: nn.Module, count: int) -> nn.Module:
    if isinstance(decoder, LastLayer):
        return LastLayer(_first_layers(decoder.decoder, count))
    layers: Any = decoder.layers
    return _with_parts(decoder, layers=layers[: _checked("layers", count, len(layers))])


def _source(module: nn.Module) -> QuerySource:
    if not isinstance(module, QuerySource):
        raise UsageError(
            f"The query source {type(module).__name__} does not declare its numbers of anchors and patterns; derive it "
            "from anchordetr.layers.query_sources.QuerySource, or leave out anchors and patterns."
        )
    return module


def _with_parts(module: Network, **parts: nn.Module) -> Network:
    """Return a shallow copy of a module with some of its submodules replaced."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **parts}
    return twin


def _choose_patterns(asked: int | Sequence[int] | None, available: int) -> list[int]:
    if asked is None or isinstance(asked, int):
        return list(range(_checked("patterns", asked, available)))
    if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(range(available)):
        raise UsageError(
            f"patterns names {', '.join(map(str, asked)) or 'nothing'}; this model has the patterns "
            f"{', '.join(map(str, range(available)))}, name each at most once."
        )
    return list(asked)


def _checked(name: str, asked: int | None, available: int) -> int:
    """Return the number to use: ``asked``, or all if it is None."""
    if asked is not None and not 1 <= asked <= available:
        raise UsageError(f"{name} is {asked}; this model has {available}, choose from 1 to {available}.")
    return asked or available

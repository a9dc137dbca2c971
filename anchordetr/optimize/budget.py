"""A part of a trained network's queries and decoder layers: less time for an image, without another training."""

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
        anchors: how many anchors, chosen by the query source; see ``QuerySource.choose_anchors``.
        patterns: how many patterns, the first ones; or which, by their numbers from 0.
        layers: how many decoder layers, the first ones.
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

    Any first layers can predict, since all layers were trained to and share their heads. The anchors are chosen by the
    places that they have now.

    Args:
        network: an :class:`~anchordetr.models.anchor_detr.AnchorDETR`, fused or not.

    Raises:
        UsageError: there is less than the budget asks for.
    """
    parts: Any = network
    chosen: dict[str, nn.Module] = {}
    if budget.anchors is not None or budget.patterns is not None:
        chosen["queries"] = ChosenQueries(parts.queries, budget)
    if budget.layers is not None:
        chosen["decoder"] = _first_layers(parts.decoder, budget.layers)
    return _with_parts(network, **chosen) if chosen else network


def largest_budget(network: nn.Module) -> tuple[int, int, int]:
    """Return the numbers of anchors, patterns and decoder layers that a network has."""
    parts: Any = network
    source = _source(parts.queries)
    return source.num_anchors, source.num_patterns, len(parts.decoder.layers)


class ChosenQueries(QuerySource):
    """A choice among the queries that another source makes.

    Args:
        source: see ``layers/query_sources.py``.
        budget: its anchors and patterns.

    Raises:
        UsageError: the source has fewer anchors, no such patterns, or cannot tell how many it has.
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
        self.register_buffer("anchors", source.choose_anchors(count).to(device), persistent=False)
        self.register_buffer("patterns", torch.tensor(chosen, device=device), persistent=False)

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        """Return the chosen queries."""
        queries: Queries = self.source(memory, heads, targets)
        has_all = queries.num_anchors == self.source.num_anchors
        anchors = self.anchors if has_all else self.anchors[self.anchors < queries.num_anchors]
        rows = (self.patterns[:, None] * queries.num_anchors + anchors).flatten()
        pattern_ids = self.patterns if queries.pattern_ids is None else queries.pattern_ids[self.patterns]
        return queries.select(rows, len(anchors), pattern_ids)


def _first_layers(decoder: nn.Module, count: int) -> nn.Module:
    if isinstance(decoder, LastLayer):
        return LastLayer(_first_layers(decoder.decoder, count))
    layers: Any = decoder.layers
    return _with_parts(decoder, layers=layers[: _checked("layers", count, len(layers))])


def _source(module: nn.Module) -> QuerySource:
    if not isinstance(module, QuerySource):
        raise UsageError(
            f"The query source {type(module).__name__} does not tell its numbers of anchors and patterns; derive it "
            "from anchordetr.layers.query_sources.QuerySource, or leave out anchors and patterns."
        )
    return module


def _with_parts(module: Network, **parts: nn.Module) -> Network:
    """Return a module that shares everything with another but these parts."""
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
    """Return how many are asked for, all if that is None."""
    if asked is not None and not 1 <= asked <= available:
        raise UsageError(f"{name} is {asked}; this model has {available}, choose from 1 to {available}.")
    return asked or available

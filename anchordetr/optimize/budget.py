"""A part of a trained network's queries and decoder layers: less time for an image, without another training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from anchordetr.errors import UsageError
from anchordetr.layers.decoder import Decoder
from anchordetr.layers.position import Positions
from anchordetr.layers.queries import EmbeddingQueries, Queries

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class Budget:
    """How much of a network is used for an image; None is all that it has.

    Attributes:
        anchors: how many anchors, chosen by :func:`spread`.
        patterns: how many patterns, the first ones; or which, by their numbers from 0.
        layers: how many decoder layers, the first ones.
    """

    anchors: int | None = None
    patterns: int | Sequence[int] | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.patterns, Sequence):
            object.__setattr__(self, "patterns", tuple(sorted(self.patterns)))


class ChosenQueries(nn.Module):
    """The queries of some anchors with some patterns, as another module gives them.

    Args:
        queries: module from a position encoder to all :class:`~anchordetr.layers.queries.Queries`.
        anchors, patterns: rows, ascending, of what is chosen.
    """

    anchors: Tensor
    patterns: Tensor

    def __init__(self, queries: nn.Module, anchors: Tensor, patterns: Tensor) -> None:
        super().__init__()
        self.queries = queries
        self.register_buffer("anchors", anchors, persistent=False)
        self.register_buffer("patterns", patterns, persistent=False)

    def forward(self, encoder: nn.Module) -> Queries:
        """Return the queries of any image, their positions encoded by ``encoder``."""
        queries: Queries = self.queries(encoder)
        rows = (self.patterns[:, None] * queries.num_anchors + self.anchors).flatten()
        x, y, xy = queries.positions.x, queries.positions.y, queries.positions.joint
        points = queries.points[:, rows]
        positions = Positions(x[:, rows], y[:, rows], xy[:, rows], points)
        patterns = self.patterns if queries.patterns is None else queries.patterns[self.patterns]
        return Queries(queries.content[:, rows], positions, points, len(self.anchors), patterns)


def spread(points: Tensor, count: int) -> Tensor:
    """Return the rows, ascending, of ``count`` points (A, 2) that leave no other point far from all of them.

    One after the other is added, each the point that most lowers the sum of squared distances from all points to
    their nearest chosen one: the greedy algorithm of facility location (Nemhauser, Wolsey and Fisher, 1978). The
    points of a smaller count are among those of a larger one, and equal points give equal rows on every device.
    """
    points = points.detach().cpu().double()
    distances = (points[:, None] - points).square().sum(dim=-1)
    nearest = torch.full_like(distances[0], torch.inf)
    costs_more = torch.zeros_like(nearest)
    for _ in range(count):
        row = (torch.minimum(nearest[:, None], distances).sum(dim=0) + costs_more).argmin()
        nearest = torch.minimum(nearest, distances[row])
        costs_more[row] = torch.inf
    return costs_more.nonzero().flatten()


def choose_queries(module: nn.Module, encoder: nn.Module, budget: Budget) -> nn.Module:
    """Return a module that gives a budget's part of another's queries.

    Raises:
        UsageError: the queries have fewer anchors or no such patterns, or no anchors to choose from.
    """
    if budget.anchors is None and budget.patterns is None:
        return module
    queries: Queries = module(encoder)
    points = queries.points[0, : queries.num_anchors]
    count = _checked("anchors", budget.anchors, len(points))
    if count < len(points) and isinstance(module, EmbeddingQueries):
        raise UsageError(
            f"This model has {len(points)} learned queries without anchor points, of which no even part can be chosen; "
            "leave out anchors."
        )
    patterns = _choose_patterns(budget.patterns, queries.points.shape[1] // queries.num_anchors)
    device = points.device
    return ChosenQueries(module, spread(points, count).to(device), torch.tensor(patterns, device=device))


def first_layers(decoder: nn.Module, count: int | None) -> nn.Module:
    """Return a decoder of the first layers of another, which is the library's or has ``layers`` too.

    Raises:
        UsageError: it has fewer.
    """
    if count is None:
        return decoder
    layers = cast(Decoder, decoder).layers
    return with_parts(decoder, layers=layers[: _checked("layers", count, len(layers))])


def with_parts(module: _Module, **parts: nn.Module) -> _Module:
    """Return a module that shares everything with another but these parts."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **parts}
    return twin


def _choose_patterns(wanted: int | Sequence[int] | None, available: int) -> list[int]:
    if wanted is None or isinstance(wanted, int):
        return list(range(_checked("patterns", wanted, available)))
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(available)):
        raise UsageError(
            f"patterns names {', '.join(map(str, wanted)) or 'nothing'}; this model has the patterns "
            f"{', '.join(map(str, range(available)))}, name each at most once."
        )
    return list(wanted)


def _checked(name: str, wanted: int | None, available: int) -> int:
    """Return how many are wanted, all if that is None."""
    if wanted is not None and not 1 <= wanted <= available:
        raise UsageError(f"{name} is {wanted}; this model has {available}, choose from 1 to {available}.")
    return wanted or available

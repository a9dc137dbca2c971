"""Query sources: anchor points with patterns, or DETR's learned embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anchordetr.errors import UsageError
from anchordetr.layers.heads import Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import LearnedPositions
from anchordetr.layers.queries import Queries
from anchordetr.registry import ANCHORS
from anchordetr.types import Target


class QuerySource(nn.Module):
    """Base class of the modules that make queries: ``source(memory, heads, targets) -> Queries``.

    It is called after the encoder. ``targets`` are given in training only.

    Attributes:
        num_anchors, num_patterns: A and P of its queries.
        is_constant: whether the queries depend on the weights alone, and neither on images nor on targets; false in a
            subclass with a forward method of its own, unless it says so again.
    """

    num_anchors: int
    num_patterns: int = 1
    is_constant: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward" in vars(cls) and "is_constant" not in vars(cls):
            cls.is_constant = False

    def choose_anchors(self, count: int) -> Tensor:
        """Return the rows (count,), ascending, of the anchors that a smaller budget keeps: the first ones."""
        return torch.arange(count, device="cpu")

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        """Return the queries of a batch.

        Args:
            memory: the encoder's output.
            heads: the decoder's class head and box head.
            targets: of each image, in training.
        """
        raise NotImplementedError


class Patterns(nn.Module):
    """``Q_f = Embedding(N_p, C)``, or DETR's zeros where ``num_patterns`` is 0."""

    def __init__(self, num_patterns: int, embed_dim: int) -> None:
        super().__init__()
        if num_patterns == 0:
            self.register_buffer("weight", torch.zeros(1, embed_dim), persistent=False)
        else:
            self.weight = nn.Parameter(torch.randn(num_patterns, embed_dim))

    def forward(self, num_anchors: int) -> Tensor:
        """Return (1, Q, C): each pattern repeated for every anchor."""
        return self.weight.repeat_interleave(num_anchors, dim=0).unsqueeze(0)

    def __len__(self) -> int:
        return len(self.weight)


@ANCHORS.register("learned")
class LearnedAnchors(nn.Module):
    """Learned anchor points, initialised uniformly at random over the image."""

    def __init__(self, num_anchors: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.rand(num_anchors, 2))

    def forward(self) -> Tensor:
        """Return (A, 2)."""
        return self.points


@ANCHORS.register("grid")
class GridAnchors(nn.Module):
    """A fixed square grid of anchor points; ``num_anchors`` is rounded to a square number."""

    points: Tensor

    def __init__(self, num_anchors: int) -> None:
        super().__init__()
        side = round(math.sqrt(num_anchors))
        center = (torch.arange(side) + 0.5) / side
        self.register_buffer("points", torch.cartesian_prod(center, center), persistent=False)

    def forward(self) -> Tensor:
        """Return (A, 2)."""
        return self.points


class AnchorQueries(QuerySource):
    """Queries at anchor points: ``Q_p = Encode(Pos_q)``, each anchor with every pattern (sections 3.2 and 3.3).

    Args:
        anchors: module that returns (A, 2) points.
        patterns: the content of the queries.
    """

    is_constant = True

    def __init__(self, *, anchors: nn.Module, patterns: Patterns) -> None:
        super().__init__()
        self.anchors = anchors
        self.patterns = patterns

    @property
    def num_anchors(self) -> int:  # type: ignore[override]
        """The number of anchors A."""
        return len(self.anchors())

    @property
    def num_patterns(self) -> int:  # type: ignore[override]
        """The number of patterns P."""
        return len(self.patterns)

    def choose_anchors(self, count: int) -> Tensor:
        """Return the rows (count,) of anchors that are spread evenly over all of them."""
        return evenly_spread(self.anchors(), count)

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        """Return the queries that all images share."""
        anchors = self.anchors().unsqueeze(0)
        points = anchors.repeat(1, len(self.patterns), 1)
        content = self.patterns(anchors.shape[1]).to(memory.values.dtype)
        return Queries(content, memory.encode(points), points, anchors.shape[1])


class EmbeddingQueries(QuerySource):
    """DETR's queries (eq. 2): ``Q_p`` is a learned embedding and boxes are predicted from no anchor.

    The reference point of every query is the center of the image, whose inverse sigmoid is zero.
    """

    is_constant = True

    def __init__(self, *, num_queries: int, patterns: Patterns, embed_dim: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(num_queries, embed_dim))
        self.patterns = patterns

    @property
    def num_anchors(self) -> int:  # type: ignore[override]
        """The number of embeddings."""
        return len(self.position)

    @property
    def num_patterns(self) -> int:  # type: ignore[override]
        """The number of patterns P."""
        return len(self.patterns)

    def choose_anchors(self, count: int) -> Tensor:
        """Return all rows.

        Raises:
            UsageError: ``count`` is smaller than their number.
        """
        if count < self.num_anchors:
            raise UsageError(
                f"This model has {self.num_anchors} learned queries without anchor points; no evenly spread subset can "
                "be chosen; leave out anchors."
            )
        return super().choose_anchors(count)

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        """Return the queries that all images share."""
        encoding = self.position.repeat(len(self.patterns), 1).unsqueeze(0).to(memory.values.dtype)
        points = torch.full((1, encoding.shape[1], 2), 0.5, dtype=torch.float32, device=encoding.device)
        content = self.patterns(self.num_anchors).to(memory.values.dtype)
        return Queries(content, LearnedPositions(encoding, points), points, self.num_anchors)


def evenly_spread(points: Tensor, count: int) -> Tensor:
    """Return the rows, ascending, of ``count`` points (A, 2) that leave no other point far from all of them.

    Points are added one by one, each the one that most lowers the sum of squared distances from all points to
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

"""Where queries come from: anchor points and patterns, or DETR's learned embeddings."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anchordetr.layers.position import Positions, SinePositionEncoder
from anchordetr.registry import ANCHORS


class Queries(NamedTuple):
    """Object queries, pattern-major: query ``q`` is pattern ``q // A`` at anchor ``q % A``.

    Attributes:
        content: (1, Q, C) initial features ``Q_f``.
        positions: encodings ``Q_p`` of Q positions.
        points: (1, Q, 2) anchors x, y in [0, 1].
        num_anchors: A.
        patterns: which of the trained patterns these are, ascending; None is all.
        valid: (B, G, Q/G) which queries are no padding, in G groups that do not see each other; None for one group
            without padding.
        objects: (B, G, Q/G) the object that each query has to find, -1 for none; None where the matching decides.

    Queries that differ from image to image have B in the place of 1.
    """

    content: Tensor
    positions: Positions
    points: Tensor
    num_anchors: int
    patterns: Tensor | None = None
    valid: Tensor | None = None
    objects: Tensor | None = None


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
    """Anchor points that are learned, uniform over the image at first."""

    def __init__(self, num_anchors: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.rand(num_anchors, 2))

    def forward(self) -> Tensor:
        """Return (A, 2)."""
        return self.points


@ANCHORS.register("grid")
class GridAnchors(nn.Module):
    """A fixed square grid of anchor points; the number is rounded to a square."""

    points: Tensor

    def __init__(self, num_anchors: int) -> None:
        super().__init__()
        side = round(math.sqrt(num_anchors))
        centre = (torch.arange(side) + 0.5) / side
        self.register_buffer("points", torch.cartesian_prod(centre, centre), persistent=False)

    def forward(self) -> Tensor:
        """Return (A, 2)."""
        return self.points


class AnchorQueries(nn.Module):
    """Queries at anchor points: ``Q_p = Encode(Pos_q)``, each anchor with every pattern (section 3.2 and 3.3).

    Args:
        anchors: module that returns (A, 2) points.
        patterns: the content of the queries.
    """

    def __init__(self, *, anchors: nn.Module, patterns: Patterns) -> None:
        super().__init__()
        self.anchors = anchors
        self.patterns = patterns

    def forward(self, encoder: SinePositionEncoder) -> Queries:
        """Return the queries of any image, their positions encoded by ``encoder``."""
        points = self.anchors().unsqueeze(0)
        repeats = (1, len(self.patterns), 1)
        x, y, xy = encoder.of_points(points)
        num_anchors, points = points.shape[1], points.repeat(repeats)
        positions = Positions(x.repeat(repeats), y.repeat(repeats), xy.repeat(repeats), points)
        return Queries(self.patterns(num_anchors), positions, points, num_anchors)


class EmbeddingQueries(nn.Module):
    """DETR's queries (eq. 2): ``Q_p`` is a learned embedding and boxes are predicted from no anchor.

    The reference point of every query is the centre of the image, whose inverse sigmoid is zero.
    """

    def __init__(self, *, num_queries: int, patterns: Patterns, embed_dim: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(num_queries, embed_dim))
        self.patterns = patterns

    def forward(self, encoder: SinePositionEncoder) -> Queries:
        """Return the queries of any image; ``encoder`` has nothing to encode here."""
        encoding = self.position.repeat(len(self.patterns), 1).unsqueeze(0)
        points = encoding.new_full((1, encoding.shape[1], 2), 0.5)
        num_anchors = len(self.position)
        positions = Positions(encoding, encoding, encoding, points)
        return Queries(self.patterns(num_anchors), positions, points, num_anchors)

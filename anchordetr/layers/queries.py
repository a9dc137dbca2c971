"""Queries: what the decoder refines into predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from anchordetr.layers.position import Positions
from anchordetr.types import Predictions


@dataclass(frozen=True)
class Queries:
    """Object queries, pattern-major: query ``q`` is pattern ``q // A`` at anchor ``q % A``.

    Attributes:
        content: (B, Q, C) features, ``Q_f`` at first.
        positions: encodings ``Q_p`` of Q positions.
        references: (B, Q, 2) points x, y or (B, Q, 4) boxes cx, cy, w, h in [0, 1] that predictions are offsets from.
        num_anchors: A.
        pattern_ids: (P,) int64 ids of the trained patterns that are used, ascending; None means all.
        valid: (B, G, Q/G) False for padding, in G groups that do not attend to each other; None for one group
            without padding.
        target_indices: (B, G, Q/G) the target that each query has to predict, -1 for none; None where the matching
            decides.
        auxiliary: predictions that the query source made on the way, by name.
        sizes: (B, Q, C) encodings of the sizes of reference boxes, where the decoder encodes them.

    B is 1 where all images share the queries.
    """

    content: Tensor
    positions: Positions
    references: Tensor
    num_anchors: int
    pattern_ids: Tensor | None = None
    valid: Tensor | None = None
    target_indices: Tensor | None = None
    auxiliary: Mapping[str, Predictions] = field(default_factory=dict)
    sizes: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """The content, under the name that :class:`~anchordetr.layers.memory.Memory` uses."""
        return self.content

    @property
    def keys(self) -> Tensor:
        """Content with positions and sizes (B, Q, C), which queries compare themselves by."""
        keys = self.content + self.positions.joint
        return keys if self.sizes is None else keys + self.sizes

    def with_content(self, content: Tensor) -> Queries:
        """Return the queries with other content (B, Q, C) at the same positions."""
        return replace(self, content=content)

    def at(self, boxes: Tensor) -> Queries:
        """Return the queries moved to boxes (B, Q, 4), with their positions encoded again."""
        positions: Any = self.positions
        return replace(self, references=boxes, positions=positions.at(boxes[..., :2]))

    def with_sizes(self, sizes: Tensor) -> Queries:
        """Return the queries with encodings (B, Q, C) of their sizes."""
        return replace(self, sizes=sizes.to(self.content.dtype))

    def select(self, rows: Tensor, num_anchors: int, pattern_ids: Tensor) -> Queries:
        """Return some of the queries, which are one group.

        Args:
            rows: indices of the queries to keep, pattern-major.
            num_anchors: the number of anchors among them.
            pattern_ids: the ids of their patterns.
        """
        positions: Any = self.positions
        return replace(
            self,
            content=self.content[:, rows],
            positions=positions.select(rows),
            references=self.references[:, rows],
            valid=None if self.valid is None else self.valid[..., rows],
            num_anchors=num_anchors,
            pattern_ids=pattern_ids,
        )

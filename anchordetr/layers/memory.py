"""Memory: the feature maps that the encoder refines and the queries attend to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from anchordetr.layers.lazy import lazy
from anchordetr.layers.position import MapPositions, PointPositions, SinePositionEncoder, location_centers
from anchordetr.rcda.module import valid_mean


@dataclass(frozen=True)
class Memory:
    """The feature maps of a batch, with the positions and validity that attention to them needs.

    Attributes:
        values: (B·G, H, W, C); the G levels of an image follow one another.
        positions: of columns, rows and locations.
        point_encoder: position encoder of query points: the one of the keys, as in the paper, or a separate one.
        valid_x, valid_y: boolean, True = valid column (B·G, W), row (B·G, H); None where nothing is padded.
        levels: G.
    """

    values: Tensor
    positions: MapPositions
    point_encoder: SinePositionEncoder = field(repr=False)
    valid_x: Tensor | None = None
    valid_y: Tensor | None = None
    levels: int = 1

    @property
    def batch_size(self) -> int:
        """B."""
        return len(self.values) // self.levels

    @lazy
    def column_means(self) -> Tensor:
        """Means over the valid rows: (B·G, W, C)."""
        return valid_mean(self.values, self.valid_y, dim=1)

    @lazy
    def row_means(self) -> Tensor:
        """Means over the valid columns: (B·G, H, C)."""
        return valid_mean(self.values, self.valid_x, dim=2)

    @lazy
    def by_level(self) -> tuple[Memory, ...]:
        """The memory of each level: values (B, H, W, C)."""
        return tuple(self._level(index) for index in range(self.levels))

    def encode(self, points: Tensor) -> PointPositions:
        """Return the positions of query points (B, N, 2): ``Q_p = Encode(Pos_q)``."""
        return PointPositions(points.float(), self.point_encoder, self.values.dtype)

    def with_values(self, values: Tensor) -> Memory:
        """Return the memory with other values (B·G, H, W, C) at the same positions."""
        return replace(self, values=values)

    def _level(self, index: int) -> Memory:
        valid_x, valid_y = (None if v is None else v[index :: self.levels] for v in (self.valid_x, self.valid_y))
        values, positions = self.values[index :: self.levels], self.positions.level(index, self.levels)
        return replace(self, values=values, positions=positions, valid_x=valid_x, valid_y=valid_y, levels=1)


@dataclass(frozen=True)
class ValidArea:
    """Which columns and rows of padded maps belong to their images.

    Attributes:
        x: (B, W), y: (B, H): boolean, True = valid; (1, W) and (1, H) where nothing is padded.
        is_padded: whether any column or row is not valid.
    """

    x: Tensor
    y: Tensor
    is_padded: bool

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], shape: Sequence[int], device: torch.device) -> ValidArea:
        """Return the valid area of maps with valid (height, width) ``sizes`` inside maps of ``shape`` (H, W)."""
        is_padded = any(size != tuple(shape) for size in sizes)
        valid = torch.tensor(sizes if is_padded else sizes[:1], device=device)
        y = torch.arange(shape[0], device=device) < valid[:, :1]
        x = torch.arange(shape[1], device=device) < valid[:, 1:]
        return cls(x, y, is_padded)

    @property
    def masks(self) -> tuple[Tensor | None, Tensor | None]:
        """``x`` and ``y``, or None twice where nothing is padded."""
        return (self.x, self.y) if self.is_padded else (None, None)

    def repeated(self, levels: int) -> ValidArea:
        """Return the valid area of ``levels`` maps for each image, which follow one another."""
        if not self.is_padded or levels == 1:
            return self
        return ValidArea(self.x.repeat_interleave(levels, dim=0), self.y.repeat_interleave(levels, dim=0), True)

    def map(self, features: Tensor) -> Tensor:
        """Return (B, 1, H, W) in the dtype of ``features``, 1 where a location is valid."""
        return (self.y[:, :, None] & self.x[:, None, :]).unsqueeze(1).to(features.dtype)

    def positions(self, encoder: SinePositionEncoder, dtype: torch.dtype) -> MapPositions:
        """Return the positions of the columns and rows as fractions of the valid size."""
        return MapPositions(location_centers(self.x), location_centers(self.y), encoder, dtype)

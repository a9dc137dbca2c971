"""Position encodings of points, columns and rows (Anchor DETR, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from anchordetr.layers.lazy import lazy
from anchordetr.registry import POSITION_ENCODERS


class Positions(Protocol):
    """Encoded positions of N queries, or of a map's columns, rows and locations.

    Attributes:
        points: (B, N, 2) or (B, H, W, 2), x and y in [0, 1], float32.
        x: (B, N, C) of queries, (B, W, C) of a map's columns. y: (B, N, C) or (B, H, C) of a map's rows.
        joint: (B, N, C) or (B, H, W, C), both coordinates in one vector.

    B is 1 where all images share the positions.
    """

    @property
    def points(self) -> Tensor: ...
    @property
    def x(self) -> Tensor: ...
    @property
    def y(self) -> Tensor: ...
    @property
    def joint(self) -> Tensor: ...


@dataclass(frozen=True)
class PointPositions:
    """:class:`Positions` of points; each encoding is computed when it is first read.

    Attributes:
        points: (B, N, 2).
        encoder: of single coordinates and of points.
        dtype: of the encodings, which are computed in float32.
    """

    points: Tensor
    encoder: SinePositionEncoder = field(repr=False)
    dtype: torch.dtype = torch.float32

    @lazy
    def x(self) -> Tensor:
        """(B, N, C)."""
        return self.encoder.encode_1d(self.points[..., 0]).to(self.dtype)

    @lazy
    def y(self) -> Tensor:
        """(B, N, C)."""
        return self.encoder.encode_1d(self.points[..., 1]).to(self.dtype)

    @lazy
    def joint(self) -> Tensor:
        """(B, N, C)."""
        return self.encoder.encode_2d(self.points).to(self.dtype)

    def at(self, points: Tensor) -> PointPositions:
        """Return the positions of other points, with the same encoder."""
        return replace(self, points=points)

    def select(self, rows: Tensor) -> PointPositions:
        """Return the positions of some of the points, with the encodings that were computed already."""
        selected = self.at(self.points[:, rows])
        for name in ("x", "y", "joint"):
            if name in vars(self):
                object.__setattr__(selected, name, getattr(self, name)[:, rows])
        return selected


@dataclass(frozen=True)
class MapPositions:
    """:class:`Positions` of a map; each encoding is computed when it is first read.

    Attributes:
        columns: (B, W) x of each column. rows: (B, H) y of each row.
        encoder, dtype: as in :class:`PointPositions`.
    """

    columns: Tensor
    rows: Tensor
    encoder: SinePositionEncoder = field(repr=False)
    dtype: torch.dtype = torch.float32

    @lazy
    def points(self) -> Tensor:
        """(B, H, W, 2)."""
        return torch.stack(torch.broadcast_tensors(self.columns[:, None, :], self.rows[:, :, None]), dim=-1)

    @lazy
    def x(self) -> Tensor:
        """(B, W, C)."""
        return self.encoder.encode_1d(self.columns).to(self.dtype)

    @lazy
    def y(self) -> Tensor:
        """(B, H, C)."""
        return self.encoder.encode_1d(self.rows).to(self.dtype)

    @lazy
    def joint(self) -> Tensor:
        """(B, H, W, C)."""
        return self.encoder.encode_2d(self.points).to(self.dtype)

    def level(self, index: int, levels: int) -> MapPositions:
        """Return the positions of one of several levels, which follow one another for each image."""
        if len(self.columns) == 1:
            return self
        return replace(self, columns=self.columns[index::levels], rows=self.rows[index::levels])


@dataclass(frozen=True)
class LearnedPositions:
    """:class:`Positions` that are one learned vector for each query, as in DETR.

    Attributes:
        joint: (1, N, C). points: (1, N, 2) reference points of the boxes.
    """

    joint: Tensor
    points: Tensor

    @property
    def x(self) -> Tensor:
        """(1, N, C)."""
        return self.joint

    @property
    def y(self) -> Tensor:
        """(1, N, C)."""
        return self.joint

    def select(self, rows: Tensor) -> LearnedPositions:
        """Return the positions of some of the queries."""
        return LearnedPositions(self.joint[:, rows], self.points[:, rows])


def sine_encoding(coordinate: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    """Encode coordinates in [0, 1] as interleaved sines and cosines: (...) -> (..., channels)."""
    exponent = torch.arange(channels // 2, device=coordinate.device, dtype=torch.float32) * (2 / channels)
    angle = coordinate.float().unsqueeze(-1) * (2 * math.pi) / temperature**exponent
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def sine_encoding_2d(points: Tensor, channels: int) -> Tensor:
    """Encode x, y points in [0, 1]: (..., 2) -> (..., channels), y in the first half of them."""
    return torch.cat(
        (sine_encoding(points[..., 1], channels // 2), sine_encoding(points[..., 0], channels // 2)), dim=-1
    )


def location_centers(valid: Tensor) -> Tensor:
    """Return the centers of columns or rows as fractions of the valid length: (B, S), True = valid, -> (B, S)."""
    count = valid.cumsum(dim=1, dtype=torch.float32)
    return (count - 0.5) / count[:, -1:]


@POSITION_ENCODERS.register("sine")
class SinePositionEncoder(nn.Module):
    """The fixed sine encoding.

    Args:
        embed_dim: channels C, a multiple of 4.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim

    def encode_1d(self, coordinate: Tensor) -> Tensor:
        """(...) -> (..., C)."""
        return sine_encoding(coordinate, self.embed_dim)

    def encode_2d(self, points: Tensor) -> Tensor:
        """(..., 2) x, y -> (..., C)."""
        return sine_encoding_2d(points, self.embed_dim)


@POSITION_ENCODERS.register("sine_mlp")
class SineMLPPositionEncoder(SinePositionEncoder):
    """The sine encoding followed by a two-layer MLP, one for single coordinates and one for points."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__(embed_dim)
        self.mlp_1d = _two_layers(embed_dim)
        self.mlp_2d = _two_layers(embed_dim)

    def encode_1d(self, coordinate: Tensor) -> Tensor:
        return self.mlp_1d(super().encode_1d(coordinate))

    def encode_2d(self, points: Tensor) -> Tensor:
        return self.mlp_2d(super().encode_2d(points))


class SizeEncoder(nn.Module):
    """The sine encoding of width and height followed by a two-layer MLP, whose output is zero at first.

    Args:
        embed_dim: channels C, a multiple of 4.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.mlp = nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.ReLU(), output := nn.Linear(embed_dim, embed_dim))
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)

    def forward(self, sizes: Tensor) -> Tensor:
        """(..., 2) w, h in [0, 1] -> (..., C)."""
        dtype = next(self.mlp.parameters()).dtype
        encoded: Tensor = self.mlp(sine_encoding_2d(sizes, self.embed_dim).to(dtype))
        return encoded


def _two_layers(embed_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.ReLU(), nn.Linear(embed_dim, embed_dim))

"""Position encodings of points, columns and rows (Anchor DETR, section 3.2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anchordetr.registry import POSITION_ENCODERS


class Positions(NamedTuple):
    """Encoded positions of queries or of the locations of a map.

    Attributes:
        x: (B, Q, C) of queries, (B, W, C) of a map's columns. y: (B, Q, C) or (B, H, C) of a map's rows.
        xy: (B, Q, C) or (B, H, W, C), both coordinates in one vector; None on maps whose attention needs no such.
        points: (B, Q, 2) or (B, H, W, 2), what was encoded: x, y in [0, 1], always float32.
    """

    x: Tensor
    y: Tensor
    xy: Tensor | None
    points: Tensor | None = None

    def repeated(self, count: int) -> Positions:
        """Repeat the positions of each image, (B·count, ...); those that all images share stay (1, ...)."""
        if len(self.x) == 1:
            return self
        parts = (None if part is None else part.repeat_interleave(count, dim=0) for part in self)
        return Positions(*parts)  # type: ignore[arg-type]

    @property
    def joint(self) -> Tensor:
        """The encoding of both coordinates in one vector.

        Raises:
            ValueError: it was not computed.
        """
        if self.xy is None:
            raise ValueError("This attention needs joint positions: set joint_position = True on its class.")
        return self.xy

    @property
    def coordinates(self) -> Tensor:
        """The points that were encoded.

        Raises:
            ValueError: they were not kept.
        """
        if self.points is None:
            raise ValueError("The points behind these positions are needed: give them as Positions(x, y, xy, points).")
        return self.points


def sine_encoding(coordinate: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    """Encode coordinates in [0, 1] as interleaved sines and cosines: (...) -> (..., channels)."""
    exponent = torch.arange(channels // 2, device=coordinate.device, dtype=torch.float32) * (2 / channels)
    angle = coordinate.float().unsqueeze(-1) * (2 * math.pi) / temperature**exponent
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def sine_encoding_2d(points: Tensor, channels: int) -> Tensor:
    """Encode x, y points in [0, 1]: (..., 2) -> (..., channels), the half of y first."""
    return torch.cat(
        (sine_encoding(points[..., 1], channels // 2), sine_encoding(points[..., 0], channels // 2)), dim=-1
    )


def location_centers(mask: Tensor) -> Tensor:
    """Return the centres of locations as fractions of the valid length: mask (B, S), True = valid, -> (B, S)."""
    count = mask.cumsum(dim=1, dtype=torch.float32)
    return (count - 0.5) / count[:, -1:]


def location_points(mask_x: Tensor, mask_y: Tensor) -> Tensor:
    """Return the centres x, y of a map's cells: masks (B, W) and (B, H), True = valid, -> (B, H, W, 2)."""
    x, y = location_centers(mask_x), location_centers(mask_y)
    return torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)


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

    def of_points(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode x, y and both of anchor points (B, A, 2): three times (B, A, C)."""
        x, y = points.unbind(-1)
        return self.encode_1d(x), self.encode_1d(y), self.encode_2d(points)

    def of_map(self, mask_x: Tensor, mask_y: Tensor, joint: bool) -> Positions:
        """Encode the locations of a map.

        Args:
            mask_x: (B, W), mask_y: (B, H): boolean, True = valid location.
            joint: also encode both coordinates together, for attentions that need it.
        """
        points = location_points(mask_x, mask_y)
        xy = self.encode_2d(points) if joint else None
        return Positions(self.encode_1d(location_centers(mask_x)), self.encode_1d(location_centers(mask_y)), xy, points)


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


def _two_layers(embed_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.ReLU(), nn.Linear(embed_dim, embed_dim))

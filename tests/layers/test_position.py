"""Position encodings against the original's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anchordetr.layers.position import (
    MapPositions,
    PointPositions,
    SinePositionEncoder,
    location_centers,
    sine_encoding,
    sine_encoding_2d,
)


def test_golden_encodings(golden: Callable[[str], dict[str, Tensor]]) -> None:
    case = golden("position")
    torch.testing.assert_close(sine_encoding(case["coordinates"], 256), case["sine_1d_256"], atol=1e-6, rtol=0)
    torch.testing.assert_close(sine_encoding_2d(case["points"], 256), case["sine_2d_256"], atol=1e-6, rtol=0)


def test_golden_cell_centres(golden: Callable[[str], dict[str, Tensor]]) -> None:
    case = golden("position")
    valid = ~case["mask"]
    torch.testing.assert_close(location_centers(valid.any(dim=2)), case["rows_y"])
    torch.testing.assert_close(location_centers(valid.any(dim=1)), case["columns_x"])


def test_a_map_is_encoded_as_its_location_centers_are() -> None:
    encoder = SinePositionEncoder(16)
    positions = MapPositions(torch.tensor([[0.125, 0.375, 0.625, 0.875]]), torch.tensor([[0.25, 0.75]]), encoder)
    center = torch.tensor([0.625, 0.25])
    torch.testing.assert_close(positions.points[0, 0, 2], center)
    torch.testing.assert_close(positions.joint[0, 0, 2], encoder.encode_2d(center))
    torch.testing.assert_close(positions.x[0, 2], encoder.encode_1d(center[0]))
    torch.testing.assert_close(positions.y[0, 0], encoder.encode_1d(center[1]))


class Counting(SinePositionEncoder):
    """An encoder that counts its calls."""

    calls = 0

    def encode_1d(self, coordinate: Tensor) -> Tensor:
        self.calls += 1
        return super().encode_1d(coordinate)

    def encode_2d(self, points: Tensor) -> Tensor:
        self.calls += 1
        return super().encode_2d(points)


def test_an_encoding_is_computed_once_and_only_when_it_is_read() -> None:
    encoder = Counting(16)
    positions = PointPositions(torch.rand(1, 3, 2), encoder, torch.bfloat16)
    assert encoder.calls == 0
    assert positions.x is positions.x
    assert encoder.calls == 1
    assert positions.joint.dtype == torch.bfloat16
    assert encoder.calls == 2
    moved = positions.at(positions.points + 0.1)
    assert not torch.equal(moved.x, positions.x)
    torch.testing.assert_close(positions.select(torch.tensor([2, 0])).y, positions.y[:, [2, 0]])

"""Position encodings against the original's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anchordetr.layers.position import SinePositionEncoder, location_centers, sine_encoding, sine_encoding_2d


def test_golden_encodings(golden: Callable[[str], dict[str, Tensor]]) -> None:
    case = golden("position")
    torch.testing.assert_close(sine_encoding(case["coordinates"], 256), case["sine_1d_256"], atol=1e-6, rtol=0)
    torch.testing.assert_close(sine_encoding_2d(case["points"], 256), case["sine_2d_256"], atol=1e-6, rtol=0)


def test_golden_cell_centres(golden: Callable[[str], dict[str, Tensor]]) -> None:
    case = golden("position")
    valid = ~case["mask"]
    torch.testing.assert_close(location_centers(valid.any(dim=2)), case["rows_y"])
    torch.testing.assert_close(location_centers(valid.any(dim=1)), case["columns_x"])


def test_a_map_is_encoded_as_its_cell_centres_are() -> None:
    encoder = SinePositionEncoder(16)
    positions = encoder.of_map(torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool), joint=True)
    assert positions.xy is not None
    centre = torch.tensor([0.625, 0.25])
    torch.testing.assert_close(positions.xy[0, 0, 2], encoder.encode_2d(centre))
    torch.testing.assert_close(positions.x[0, 2], encoder.encode_1d(centre[0]))
    torch.testing.assert_close(positions.y[0, 0], encoder.encode_1d(centre[1]))
    assert (
        encoder.of_map(torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool), joint=False).xy is None
    )

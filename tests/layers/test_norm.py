"""Group norm over valid locations."""

from __future__ import annotations

import torch

from anchordetr.layers.norm import MaskedGroupNorm


def test_padding_changes_no_valid_cell() -> None:
    norm = MaskedGroupNorm(4, 8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    features = 3 + torch.randn(1, 8, 3, 5)
    padded = torch.full((1, 8, 6, 7), 50.0)
    padded[:, :, :3, :5] = features
    masked = norm(padded, torch.arange(7)[None] < 5, torch.arange(6)[None] < 3)
    torch.testing.assert_close(masked[:, :, :3, :5], norm(features), atol=1e-5, rtol=1e-5)

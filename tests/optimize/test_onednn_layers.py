"""Fused layers answer as torch's own, with oneDNN's kernels and without."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from anchordetr.optimize import onednn_layers as fused
from anchordetr.optimize.onednn_layers import FusedConvolution, FusedLinear, LeanMaxPool

pytestmark = pytest.mark.parametrize("with_onednn", [True, False], ids=["oneDNN", "plain"])


@pytest.fixture(autouse=True)
def kernels(with_onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_onednn:
        monkeypatch.setattr(fused, "fuses", lambda features: False)
    elif not fused.fuses(torch.zeros(1)):
        pytest.skip("this build of torch has no oneDNN")


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 4, 8), (1, 8)])
def test_linear(shape: tuple[int, ...], relu: bool) -> None:
    layer, features = nn.Linear(8, 12), torch.randn(*shape)
    expected = layer(features).relu() if relu else layer(features)
    with torch.inference_mode():
        torch.testing.assert_close(FusedLinear(layer.weight, layer.bias, relu)(features), expected)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 2, "dilation": 2}, {"groups": 4, "bias": False}])
def test_convolution(options: dict[str, int], relu: bool) -> None:
    layer = nn.Conv2d(8, 12, 3, **options)
    features = torch.randn(2, 8, 11, 9).to(memory_format=torch.channels_last)
    expected = layer(features)
    shortcut = torch.randn_like(expected)
    prepared = FusedConvolution(layer, relu)
    with torch.inference_mode():
        torch.testing.assert_close(prepared(features), F.relu(expected) if relu else expected, atol=1e-5, rtol=1e-5)
        summed = F.relu(expected + shortcut) if relu else expected + shortcut
        held = shortcut.clone()
        torch.testing.assert_close(prepared(features, held), summed, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(held, summed, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 12), (3, 4)], ids=str)
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 2), (3, 1), (5, 2), (5, 3), (1, 2)])
def test_max_pooling_is_torchs(
    kernel_size: int, stride: int, size: tuple[int, int], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    features = torch.randn(2, 4, *size).to(dtype, memory_format=layout)
    features[0, 0, 0, 0] = torch.nan
    kept = features.clone()
    expected = F.max_pool2d(features, kernel_size, stride, kernel_size // 2)
    found = LeanMaxPool(kernel_size, stride)(features)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(features, kept, rtol=0, atol=0, equal_nan=True)


def test_max_pooling_keeps_the_layout() -> None:
    features = torch.randn(2, 4, 9, 12).to(memory_format=torch.channels_last)
    assert LeanMaxPool(3, 2)(features).is_contiguous(memory_format=torch.channels_last)

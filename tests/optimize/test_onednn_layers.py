"""Fused layers compute what torch's own do, with oneDNN's kernels and without."""

from __future__ import annotations

from itertools import cycle, product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from anchordetr.optimize import onednn_layers as fused
from anchordetr.optimize.onednn_layers import FusedConvolution, LeanMaxPool

CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
# kernel size, stride, and a map's sides: odd, even, smaller than the kernel
POOLS = [*product((3, 5), (1, 2, 3), ((1, 1), (2, 7), (9, 12))), (1, 2, (9, 12))]
FORMATS = cycle(
    [
        (torch.float32, CONTIGUOUS),
        (torch.bfloat16, CHANNELS_LAST),
        (torch.float32, CHANNELS_LAST),
        (torch.bfloat16, CONTIGUOUS),
    ]
)


@pytest.fixture
def onednn() -> None:
    if not fused.fuses(torch.zeros(1)):
        pytest.skip("this build of torch has no oneDNN")


@pytest.fixture(params=["oneDNN", "plain"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with oneDNN's kernels, and without them."""
    if request.param == "plain":
        monkeypatch.setattr(fused, "fuses", lambda features: False)
    else:
        request.getfixturevalue("onednn")


@pytest.mark.usefixtures("kernels")
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
        memory = shortcut.clone()
        torch.testing.assert_close(prepared(features, memory), summed, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(memory, summed, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize(
    ("pool", "dtype", "layout"),
    [(pool, *form) for pool, form in zip(POOLS, FORMATS, strict=False)],
    ids=str,
)
def test_max_pooling_is_torchs(
    pool: tuple[int, int, tuple[int, int]], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    kernel_size, stride, size = pool
    features = torch.randn(2, 4, *size).to(dtype, memory_format=layout)
    features[0, 0, 0, 0] = torch.nan
    before = features.clone()
    expected = F.max_pool2d(features, kernel_size, stride, kernel_size // 2)
    pooled = LeanMaxPool(kernel_size, stride)(features)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(features, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.usefixtures("kernels")
def test_max_pooling_keeps_the_layout() -> None:
    features = torch.randn(2, 4, 9, 12).to(memory_format=CHANNELS_LAST)
    pooled = LeanMaxPool(3, 2)(features)
    assert pooled.is_contiguous(memory_format=CHANNELS_LAST)
    torch.testing.assert_close(pooled, F.max_pool2d(features, 3, 2, 1), rtol=0, atol=0)


def test_a_torch_without_the_private_operators_runs_the_public_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, features = FusedConvolution(nn.Conv2d(3, 4, 3, padding=1), relu=True), torch.randn(1, 3, 8, 8)
    expected = layer(features)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    fused._has_kernels.cache_clear()
    assert not fused.fuses(features)
    torch.testing.assert_close(layer(features), expected)
    monkeypatch.undo()
    fused._has_kernels.cache_clear()

"""Products through oneDNN against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from anchordetr.rcda import onednn as product
from anchordetr.rcda.onednn import Linear, batched_product

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Products of any size go to oneDNN; the convolutions that were called are listed."""
    calls: list[str] = []
    convolve = F.conv2d

    def counted(*arguments: object) -> object:
        calls.append("conv2d")
        return convolve(*arguments)

    monkeypatch.setattr(product, "_has_kernels", lambda: True)
    monkeypatch.setattr(product, "_FEW_PRODUCTS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(F, "conv2d", counted)
    return calls


@needs_onednn
@pytest.mark.parametrize("shape", [(7, 12), (2, 5, 12), (2, 3, 4, 12), (1, 1, 12)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_a_linear_layer_by_convolution_equals_torchs(shape: tuple[int, ...], bias: bool, onednn: list[str]) -> None:
    layer = Linear(12, 9, bias=bias)
    features = torch.randn(shape, requires_grad=True)
    inputs = (features, *layer.parameters())
    actual, expected = layer(features), F.linear(features, layer.weight, layer.bias)
    torch.testing.assert_close(actual, expected)
    cotangent = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent)
    )
    assert onednn == ["conv2d"]


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("relu", [True, False], ids=["relu", "linear"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_without_gradient_a_linear_layer_is_one_kernel(
    bias: bool, relu: bool, dtype: torch.dtype, onednn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "multiplies_bfloat16", lambda: True)
    layer, features = Linear(12, 9, bias=bias, relu=relu).to(dtype), torch.randn(2, 3, 12, dtype=dtype)
    with torch.no_grad():
        expected = F.linear(features, layer.weight, layer.bias)
        torch.testing.assert_close(layer(features), expected.relu() if relu else expected)
    assert not onednn


def test_bfloat16_is_left_to_torch_where_the_cpu_has_no_instructions(
    onednn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(product, "linear_pointwise", None)
    with torch.no_grad():
        Linear(12, 9).bfloat16()(torch.randn(5, 12).bfloat16())
    assert not onednn


@pytest.mark.parametrize("relu", [True, False], ids=["relu", "no_relu"])
def test_relu_follows_with_gradient_too(relu: bool, onednn: list[str]) -> None:
    layer, features = Linear(12, 9, relu=relu), torch.randn(5, 12, requires_grad=True)
    expected = F.linear(features, layer.weight, layer.bias)
    torch.testing.assert_close(layer(features), expected.relu() if relu else expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_dtypes_are_left_to_torch(dtype: torch.dtype, onednn: list[str]) -> None:
    layer = Linear(12, 9).to(dtype)
    features = torch.randn(5, 12, dtype=dtype)
    assert torch.equal(layer(features), F.linear(features, layer.weight, layer.bias))
    assert not onednn


def test_one_thread_multiplies_with_torch(onednn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    Linear(12, 9)(torch.randn(5, 12))
    assert not onednn


def test_autocast_is_respected(onednn: list[str]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(12, 9)(torch.randn(5, 12)).dtype == torch.bfloat16
    assert not onednn


@needs_onednn
@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("is_transposed", [False, True], ids=["plain", "transposed"])
def test_a_product_of_matrices_equals_torchs(is_transposed: bool) -> None:
    a = torch.randn(1, 6, 5)
    b = torch.randn(1, 8, 5).transpose(1, 2) if is_transposed else torch.randn(1, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(batched_product(a, b), torch.bmm(a, b))
        torch.testing.assert_close(batched_product(a.transpose(1, 2), a), torch.bmm(a.transpose(1, 2), a))

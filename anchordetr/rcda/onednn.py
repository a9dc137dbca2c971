"""Matrix products through oneDNN on CPUs with AVX-512. No other file of ``rcda`` uses private operators of torch.

torch computes float32 products with MKL, which leaves half of AVX-512 unused on CPUs not made by Intel.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW_PRODUCTS = 1 << 22


def batched_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a (P, n, S) times b (P, S, K), without gradient: (P, n, K)."""
    if len(a) == 1 and _is_slow_in_mkl(a, b.shape[-1]):
        return linear_pointwise(a[0], b[0].t()).unsqueeze(0)
    return torch.bmm(a, b)


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Apply a linear layer as ``F.linear`` does, and ReLU if asked for: (..., C) and weight (S, C) -> (..., S)."""
    if torch.is_autocast_enabled(features.device.type):
        output = F.linear(features, weight, bias)
    elif not torch.is_grad_enabled() and _fuses_linear(features, len(weight)):
        rows = linear_pointwise(features.flatten(0, -2), weight, bias, "relu" if relu else "none")
        return rows.unflatten(0, features.shape[:-1])
    elif _is_slow_in_mkl(features, len(weight)) and torch.get_num_threads() > 1:
        pixels = features.reshape(1, 1, -1, features.shape[-1]).permute(0, 3, 1, 2)
        output = F.conv2d(pixels, weight[:, :, None, None], bias)  # goes to oneDNN, with several threads
        output = output.permute(0, 2, 3, 1).reshape(*features.shape[:-1], len(weight))
    else:
        output = F.linear(features, weight, bias)
    return output.relu_() if relu else output


def linear_pointwise(rows: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """Return oneDNN's linear layer without gradient, ReLU in the same kernel if asked for: (R, C) -> (R, S).

    Args:
        activation: ``none`` or ``relu``.
    """
    output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, activation, [], "")
    return output


class Linear(nn.Linear):
    """``nn.Linear`` computed by :func:`linear`.

    Args:
        in_features, out_features: C and S.
        bias: whether one is added.
        relu: whether ReLU follows.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, relu: bool = False) -> None:
        super().__init__(in_features, out_features, bias)
        self.relu = relu

    def forward(self, features: Tensor) -> Tensor:
        """(..., C) -> (..., S)."""
        return linear(features, self.weight, self.bias, self.relu)


def _is_slow_in_mkl(features: Tensor, outputs: int) -> bool:
    """Whether oneDNN is faster than MKL at the product of features and a matrix of ``outputs`` columns."""
    return features.dtype == torch.float32 and _is_large(features, outputs) and _has_kernels()


def _fuses_linear(features: Tensor, outputs: int) -> bool:
    """Whether a linear layer without gradient goes to oneDNN; torch would copy a bfloat16 bias into the output."""
    if features.dtype == torch.bfloat16:
        return _is_large(features, outputs) and multiplies_bfloat16() and _has_kernels()
    return _is_slow_in_mkl(features, outputs)


def _is_large(features: Tensor, outputs: int) -> bool:
    """Whether a product is on a CPU, outside ``torch.compile``, and large enough for oneDNN to pay off."""
    is_on_cpu = features.device.type == "cpu" and not torch.compiler.is_compiling()
    return is_on_cpu and features.numel() * outputs > _FEW_PRODUCTS


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@cache
def _has_kernels() -> bool:
    """Whether torch has its private operator, and the CPU has AVX-512."""
    is_built = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return is_built and torch.backends.cpu.get_cpu_capability() == "AVX512"

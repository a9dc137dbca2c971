"""Matrix products on a CPU with AVX-512, through oneDNN: the room's only private operators of torch.

torch gives float32 products to MKL, which uses half of AVX-512 on processors of other makers; oneDNN uses all of it.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW_PRODUCTS = 1 << 22


def batched_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a (P, n, S) times b (P, S, K), without gradient: (P, n, K)."""
    if len(a) == 1 and _is_faster_in_onednn(a, b.shape[-1]):
        return linear_pointwise(a[0], b[0].t()).unsqueeze(0)
    return torch.bmm(a, b)


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer as ``F.linear`` does: (..., C) and weight (S, C) -> (..., S)."""
    if torch.is_autocast_enabled(features.device.type) or not _is_faster_in_onednn(features, len(weight)):
        return F.linear(features, weight, bias)
    if not torch.is_grad_enabled():
        return linear_pointwise(features.flatten(0, -2), weight, bias).unflatten(0, features.shape[:-1])
    if torch.get_num_threads() == 1:  # torch does not give 1×1 convolutions to oneDNN then
        return F.linear(features, weight, bias)
    rows = features.reshape(1, 1, -1, features.shape[-1]).permute(0, 3, 1, 2)
    output = F.conv2d(rows, weight[:, :, None, None], bias)
    return output.permute(0, 2, 3, 1).reshape(*features.shape[:-1], len(weight))


def linear_pointwise(rows: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """Return oneDNN's linear layer without gradient, ReLU in the same kernel if asked for: (R, C) -> (R, S).

    Args:
        activation: ``none`` or ``relu``.
    """
    output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, activation, [], "")
    return output


class Linear(nn.Linear):
    """``nn.Linear`` by way of :func:`linear`."""

    def forward(self, features: Tensor) -> Tensor:
        """(..., C) -> (..., S)."""
        return linear(features, self.weight, self.bias)


def _is_faster_in_onednn(features: Tensor, outputs: int) -> bool:
    """Whether a product of features with a matrix of so many columns is large, and of a kind that MKL is slow with."""
    if torch.compiler.is_compiling() or features.device.type != "cpu" or features.dtype != torch.float32:
        return False
    return features.numel() * outputs > _FEW_PRODUCTS and _has_kernels()


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@cache
def _has_kernels() -> bool:
    """Whether torch's private operator is there, and oneDNN uses AVX-512."""
    is_built = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return is_built and torch.backends.cpu.get_cpu_capability() == "AVX512"

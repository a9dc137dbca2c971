"""Matrix products on a CPU with AVX-512, through oneDNN.

torch gives float32 products to MKL, which uses half of AVX-512 on processors of other makers; oneDNN's kernels use all of it.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


def batched_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a (P, n, S) times b (P, S, K), without gradient: (P, n, K)."""
    if len(a) == 1 and _is_faster_in_onednn(a):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(a[0], b[0].t(), None, "none", [], "")
        return product.unsqueeze(0)
    return torch.bmm(a, b)


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer as ``F.linear`` does: (..., C) and weight (S, C) -> (..., S)."""
    if not _is_faster_in_onednn(features) or torch.is_autocast_enabled(features.device.type):
        return F.linear(features, weight, bias)
    rows = features.reshape(1, 1, -1, features.shape[-1]).permute(0, 3, 1, 2)
    output = F.conv2d(rows, weight[:, :, None, None], bias)
    return output.permute(0, 2, 3, 1).reshape(*features.shape[:-1], len(weight))


def _is_faster_in_onednn(features: Tensor) -> bool:
    return features.device.type == "cpu" and features.dtype == torch.float32 and features.numel() > 0 and _has_kernels()


@cache
def _has_kernels() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"

"""Layers for inference: oneDNN runs ReLU and residual sums in the kernel of a convolution, pooling keeps no indices."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FusedConvolution(nn.Module):
    """A convolution with an optional residual sum and ReLU in the same kernel; layout channels-last.

    Args:
        convolution: source of the weights; its padding must be numeric. relu: whether ReLU follows.
    """

    def __init__(self, convolution: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.weight = _fixed(convolution.weight, memory_format=torch.channels_last)
        self.bias = None if convolution.bias is None else _fixed(convolution.bias)
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.relu = relu

    def forward(self, features: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolve (B, C, H, W), add ``shortcut``, which is overwritten with the output, and apply ReLU."""
        if fuses(features):
            return self._fused(features, shortcut)
        output = F.conv2d(features, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if shortcut is not None:
            output = shortcut.add_(output)
        return output.relu_() if self.relu else output

    def _fused(self, features: Tensor, shortcut: Tensor | None) -> Tensor:
        geometry = (self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups)
        activation = "relu" if self.relu else "none"
        if shortcut is None:
            output: Tensor = torch.ops.mkldnn._convolution_pointwise(features, *geometry, activation, [], "")
            return output
        unary = activation if self.relu else None
        torch.ops.mkldnn._convolution_pointwise_.binary(shortcut, features, *geometry, "add", 1.0, unary, [], "")
        return shortcut


class LeanMaxPool(nn.Module):
    """Max pooling without the indices of the maxima.

    On a CPU torch stores them for a backward pass: eight bytes per output, in addition to its own two or four.

    Args:
        kernel_size: odd, the side of the square window; the padding is half of it. stride: in both directions.
    """

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        if not fuses(features):
            return F.max_pool2d(features, self.kernel_size, self.stride, self.kernel_size // 2)
        return self._along(self._along(features, 2), 3)

    def _along(self, features: Tensor, dim: int) -> Tensor:
        """Return the maximum in one direction, of the windows' centers and of the pixels at each distance from them."""
        places = features.transpose(0, dim)
        maxima = places[:: self.stride].clone()
        for distance in range(1, self.kernel_size // 2 + 1):
            first = -(-distance // self.stride)  # first window with a pixel at this distance before its center
            _update_maxima(maxima[first:], places[first * self.stride - distance :: self.stride])
            _update_maxima(maxima, places[distance :: self.stride])
        return maxima.transpose(0, dim)


def _update_maxima(maxima: Tensor, candidates: Tensor) -> None:
    """Update ``maxima`` in place with larger candidates, over the shorter of the two lengths."""
    count = min(len(maxima), len(candidates))
    torch.maximum(maxima[:count], candidates[:count], out=maxima[:count])


def fuses(features: Tensor) -> bool:
    """Whether to use oneDNN's fused kernels for these features; ``torch.compile`` does its own fusion."""
    if torch.compiler.is_compiling() or features.device.type != "cpu" or not _has_kernels():
        return False
    if features.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return features.dtype == torch.float32


@cache
def _has_kernels() -> bool:
    """Whether torch's private operators are there."""
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_is_mkldnn_bf16_supported")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


def _fixed(value: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(memory_format=memory_format), requires_grad=False)

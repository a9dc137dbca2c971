"""Linear layers and convolutions for inference, with what follows them in the same kernel where oneDNN can do so."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FusedLinear(nn.Module):
    """A linear layer, with ReLU in the same kernel if wanted.

    Args:
        weight: (S, C). bias: (S,). relu: whether ReLU follows.
    """

    def __init__(self, weight: Tensor, bias: Tensor, relu: bool = False) -> None:
        super().__init__()
        self.weight = _fixed(weight)
        self.bias = _fixed(bias)
        self.relu = relu

    def forward(self, features: Tensor) -> Tensor:
        """(..., C) -> (..., S)."""
        if fuses(features):
            rows = features.flatten(0, -2)
            activation = "relu" if self.relu else "none"
            output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, activation, [], "")
            return output.unflatten(0, features.shape[:-1])
        output = F.linear(features, self.weight, self.bias)
        return output.relu_() if self.relu else output


class FusedConvolution(nn.Module):
    """A convolution, with a shortcut's sum and ReLU in the same kernel if wanted; layout channels-last.

    Args:
        convolution: whose weights are taken, its padding given in numbers. relu: whether ReLU follows.
    """

    def __init__(self, convolution: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.weight = _fixed(convolution.weight, memory_format=torch.channels_last)
        self.bias = None if convolution.bias is None else _fixed(convolution.bias)
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.relu = relu

    def forward(self, features: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolve (B, C, H, W), add ``shortcut``, whose memory holds the answer then, and apply ReLU."""
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


def fuses(features: Tensor) -> bool:
    """Whether oneDNN's fused kernels can take these features; ``torch.compile`` fuses by itself."""
    if torch.compiler.is_compiling() or features.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if features.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return features.dtype == torch.float32


def _fixed(value: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(memory_format=memory_format), requires_grad=False)

"""Registration of a fused backend with ``torch.library``: fake tensors, autograd and autocast, in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Forward = Callable[..., Tensor]
Backward = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]

_ARGUMENTS = "Tensor q_x, Tensor q_y, Tensor k_x, Tensor k_y, Tensor value, Tensor? mask_x, Tensor? mask_y, float scale"
_GRADIENTS = "(Tensor, Tensor, Tensor, Tensor, Tensor)"
_LIBRARY = torch.library.Library("anchordetr", "FRAGMENT")


def triton_is_interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter, which takes tensors on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def empty_output(q_x: Tensor, value: Tensor) -> Tensor:
    """Return an uninitialised (B, M, N, Dv) whose memory lies as (B, N, M, Dv), so that joining the heads is free."""
    batch, heads, queries, _ = q_x.shape
    return value.new_empty(batch, queries, heads, value.shape[-1]).transpose(1, 2)


def empty_value_gradient(value: Tensor) -> Tensor:
    """Return an uninitialised (B, M, H, W, Dv) whose memory has the longer axis outside, as tiles add to them."""
    batch, heads, height, width, depth = value.shape
    if width >= height:
        return value.new_empty(batch, heads, width, height, depth).transpose(2, 3)
    return value.new_empty(value.shape)


def register(name: str, forward: Forward, backward: Backward) -> Forward:
    """Register ``anchordetr::name`` and its backward pass.

    Args:
        forward: (q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale) -> output, laid out as :func:`empty_output` does.
        backward: (gradient of the output, the output, then the arguments of ``forward``) -> gradients of the first four
            arguments, contiguous, and of the value, laid out as :func:`empty_value_gradient` does.

    Returns:
        The operator, called like ``forward``. It traces, exports and differentiates once, and under autocast it
        computes in autocast's dtype.
    """
    operator = torch.library.custom_op(
        f"anchordetr::{name}", forward, mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor"
    )
    gradients = torch.library.custom_op(
        f"anchordetr::{name}_backward",
        backward,
        mutates_args=(),
        schema=f"(Tensor gradient, Tensor output, {_ARGUMENTS}) -> {_GRADIENTS}",
    )

    @operator.register_fake
    def _(q_x: Tensor, q_y: Tensor, k_x: Tensor, k_y: Tensor, value: Tensor, *_: Any) -> Tensor:
        return empty_output(q_x, value)

    @gradients.register_fake
    def _(gradient: Tensor, output: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        contiguous = (argument.new_empty(argument.shape) for argument in arguments[:4])
        return (*contiguous, empty_value_gradient(arguments[4]))

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output, *inputs[:-1])
        ctx.scale = inputs[-1]

    def differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*gradients(gradient, *ctx.saved_tensors, ctx.scale), None, None, None)

    operator.register_autograd(differentiate, setup_context=save)
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        _LIBRARY.impl(name, _in_autocast_dtype(operator, device), key)
    return operator


def _in_autocast_dtype(operator: Forward, device: str) -> Forward:
    def kernel(*arguments: Any) -> Tensor:
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return operator(
                *(
                    argument.to(dtype) if isinstance(argument, Tensor) and argument.is_floating_point() else argument
                    for argument in arguments
                )
            )

    return kernel

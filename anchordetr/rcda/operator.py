"""Registration of a fused backend with ``torch.library``: fake tensors and autograd, in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anchordetr.rcda.operands import Axis, Gradients, Operands, is_wide

Forward = Callable[[Operands], Tensor]
Backward = Callable[[Tensor, Tensor, Operands], Gradients]

_OPERANDS = (
    "Tensor q_x, Tensor q_y, Tensor k_x, Tensor k_y, Tensor value, "
    "Tensor? bias_x, Tensor? bias_y, Tensor? mask_x, Tensor? mask_y, float scale"
)
_GRADIENTS = "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"


def triton_is_interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter, which takes tensors on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def empty_output(operands: Operands) -> Tensor:
    """Return an uninitialised (B, M, N, Dv), stored as (B, N, M, Dv) so that joining the heads needs no copy."""
    batch, heads, queries, _ = operands.x.query.shape
    return operands.value.new_empty(batch, queries, heads, operands.value.shape[-1]).transpose(1, 2)


def empty_gradients(operands: Operands) -> Gradients:
    """Return uninitialised gradients: contiguous for the axes, and for the value in the layout that backends write.

    The gradient (B, M, H, W, Dv) of the value has the longer axis outside: it is stored as (B, M, W, H, Dv) where
    the map is at least as wide as high.
    """
    x, y = (_empty_axis(axis) for axis in (operands.x, operands.y))
    value = operands.value
    batch, heads, height, width, depth = value.shape
    if is_wide(value):
        return Gradients(x, y, value.new_empty(batch, heads, width, height, depth).transpose(2, 3))
    return Gradients(x, y, value.new_empty(value.shape))


def _empty_axis(axis: Axis) -> Axis:
    bias = None if axis.bias is None else axis.bias.new_empty(axis.bias.shape)
    return Axis(axis.query.new_empty(axis.query.shape), axis.key.new_empty(axis.key.shape), bias=bias)


def register(name: str, forward: Forward, backward: Backward) -> Forward:
    """Register ``anchordetr::name`` and its backward pass.

    Args:
        forward: operands -> output, laid out as :func:`empty_output` does.
        backward: (gradient of the output, the output, operands) -> gradients laid out as :func:`empty_gradients` does.

    Returns:
        A function of the operands that calls the operator, which can be traced, exported and differentiated once.
    """

    def run(*flat: Any) -> Tensor:
        operands = Operands.unflatten(*flat)
        return empty_output(operands).zero_() if operands.attends_to_nothing() else forward(operands)

    def run_backward(gradient: Tensor, output: Tensor, *flat: Any) -> tuple[Tensor, ...]:
        operands = Operands.unflatten(*flat)
        if operands.attends_to_nothing():
            return tuple(part.zero_() for part in empty_gradients(operands).flatten())
        return backward(gradient, output, operands).flatten()

    operator = torch.library.custom_op(
        f"anchordetr::{name}",
        run,
        mutates_args=(),
        schema=f"({_OPERANDS}) -> Tensor",
    )
    gradients = torch.library.custom_op(
        f"anchordetr::{name}_backward",
        run_backward,
        mutates_args=(),
        schema=f"(Tensor gradient, Tensor output, {_OPERANDS}) -> {_GRADIENTS}",
    )

    @operator.register_fake
    def _(*flat: Any) -> Tensor:
        return empty_output(Operands.unflatten(*flat))

    @gradients.register_fake
    def _(gradient: Tensor, output: Tensor, *flat: Any) -> tuple[Tensor, ...]:
        return empty_gradients(Operands.unflatten(*flat)).flatten()

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output, *inputs[:-1])
        ctx.scale = inputs[-1]

    def differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, *tensors = ctx.saved_tensors
        found = gradients(gradient, output, *tensors, ctx.scale)
        given = (tensor is not None for tensor in tensors)
        of_tensors = (part if is_given else None for part, is_given in zip(found, given, strict=False))
        return (*of_tensors, None, None, None)

    operator.register_autograd(differentiate, setup_context=save)
    return lambda operands: operator(*operands.tensors(), operands.scale)

"""RCDA by the fused kernels of :mod:`anchordetr.rcda.triton_kernels`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from anchordetr.rcda.operands import Gradients, Operands, is_wide
from anchordetr.rcda.operator import empty_gradients, empty_output, register
from anchordetr.rcda.triton_kernels import forward_kernel, query_gradient_kernel, value_gradient_kernel

_BLOCK_S = 16
_GRADIENT_TILE = 64


def _forward(operands: Operands) -> Tensor:
    output = empty_output(operands)
    queries = operands.x.query.shape[2]
    forward_kernel[lambda meta: (triton.cdiv(queries, meta["BLOCK_N"]), _groups(operands))](
        *_queries_and_keys(operands),
        heads_inside(operands.value),
        *_masks_and_biases(operands),
        output,
        *_sizes(operands),
        **_constants(operands),
        IS_WIDE=is_wide(operands.value),
        BLOCK_S=_BLOCK_S,
    )
    return output


def _backward(gradient: Tensor, output: Tensor, operands: Operands) -> Gradients:
    gradients = empty_gradients(operands)
    delta = (gradient.float() * output.float()).sum(dim=-1).contiguous()
    statistics = delta.new_empty(4, *delta.shape)
    gradient = heads_inside(gradient)
    _differentiate_axes(gradient, delta, statistics, operands, gradients)
    _differentiate_value(gradient, statistics, operands, gradients)
    return gradients


def _differentiate_axes(
    gradient: Tensor, delta: Tensor, statistics: Tensor, operands: Operands, gradients: Gradients
) -> None:
    """Fill the gradients of both axes, and the statistics (4, B, M, N) of their softmaxes."""
    axes, daxes = operands.longer_first(), gradients.longer_first()
    tiles = triton.cdiv(operands.x.query.shape[2], _GRADIENT_TILE)
    shares = [axis.key.new_empty(tiles, *axis.key.shape, dtype=torch.float32) for axis in axes]
    # the gradient of the second bias is added to once per part of the first axis
    dbias_s = None if axes[1].bias is None else axes[1].bias.new_empty(axes[1].bias.shape, dtype=torch.float32)
    query_gradient_kernel[(tiles, _groups(operands))](
        *_queries_and_keys(operands),
        heads_inside(operands.value),
        *_masks_and_biases(operands),
        gradient,
        delta,
        *(axis.query for axis in daxes),
        *shares,
        daxes[0].bias,
        dbias_s,
        statistics,
        *_sizes(operands),
        **_constants(operands),
        IS_WIDE=is_wide(operands.value),
        BLOCK_S=_BLOCK_S,
        BLOCK_N=_GRADIENT_TILE,
    )
    for axis, share in zip(daxes, shares, strict=True):
        axis.key.copy_(share.sum(dim=0))
    if daxes[1].bias is not None and dbias_s is not None:
        daxes[1].bias.copy_(dbias_s)


def _differentiate_value(gradient: Tensor, statistics: Tensor, operands: Operands, gradients: Gradients) -> None:
    length_f, length_s = (axis.key.shape[2] for axis in operands.longer_first())

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(length_f, meta["BLOCK_F"]) * triton.cdiv(length_s, meta["ROWS"]), _groups(operands)

    value_gradient_kernel[grid](
        *_queries_and_keys(operands),
        *_masks_and_biases(operands),
        gradient,
        statistics,
        gradients.value,
        *_sizes(operands),
        **_constants(operands),
        BLOCK_S=_BLOCK_S,
    )


def _queries_and_keys(operands: Operands) -> tuple[Tensor, ...]:
    """Return the queries of the first and of the second axis, then the keys."""
    first, second = operands.longer_first()
    return tuple(heads_inside(tensor) for tensor in (first.query, second.query, first.key, second.key))


def _masks_and_biases(operands: Operands) -> tuple[Tensor | None, ...]:
    """Return the masks of the first and of the second axis as bytes, then the biases."""
    axes = operands.longer_first()
    masks = (None if axis.mask is None else axis.mask.contiguous().view(torch.uint8) for axis in axes)
    return (*masks, *(None if axis.bias is None else axis.bias.contiguous() for axis in axes))


def heads_inside(tensor: Tensor) -> Tensor:
    """Lay (B, M, ..., D) out as (B, ..., M, D): a view of what a projection to M·D channels returns, else a copy."""
    return tensor.movedim(1, -2).contiguous()


def _groups(operands: Operands) -> int:
    batch, heads = operands.value.shape[:2]
    return batch * heads


def _sizes(operands: Operands) -> tuple[int | float, ...]:
    _, heads, queries, depth = operands.x.query.shape
    lengths = (axis.key.shape[2] for axis in operands.longer_first())
    return heads, queries, *lengths, depth, operands.value.shape[-1], operands.scale


def _constants(operands: Operands) -> dict[str, Any]:
    """Return the precision of products, tf32 where torch's own use it, and the channels padded to a power of two."""
    value = operands.value
    in_tf32 = value.is_cuda and torch.backends.cuda.matmul.allow_tf32
    return {
        "PRECISION": "tf32" if in_tf32 else "ieee",
        "DEPTH": max(triton.next_power_of_2(operands.x.query.shape[-1]), 16),
        "DEPTH_V": max(triton.next_power_of_2(value.shape[-1]), 16),
    }


def _on_its_device(run: Callable[..., Any]) -> Callable[..., Any]:
    """Launch kernels on the device of the first tensor, which need not be the current one."""

    def launch(*arguments: Any) -> Any:
        operands: Operands = arguments[-1]
        with torch.cuda.device_of(operands.value):
            return run(*arguments)

    return launch


rcda_triton = register("rcda_triton", _on_its_device(_forward), _on_its_device(_backward))

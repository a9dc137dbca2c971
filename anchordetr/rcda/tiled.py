"""RCDA on any device that never holds Z of all queries: tiles of queries, and a backward pass that recomputes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from anchordetr.rcda.operator import empty_output, empty_value_gradient, register

_CPU_TILE_BYTES = 8 << 20
_DEVICE_TILE_BYTES = 128 << 20
_TILE_STEP = 16


def tile_bytes(device_type: str) -> int:
    """Return how much memory the Z of a tile may take in the forward pass; the backward pass takes twice that."""
    return _CPU_TILE_BYTES if device_type == "cpu" else _DEVICE_TILE_BYTES


class _Axis(NamedTuple):
    """One axis of one picture.

    Attributes:
        query: (M, N, D). key: (M, S, D), times the scale, in the dtype of logits and softmax.
        mask: (S,), True = may be attended.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None

    def weights(self, rows: slice) -> Tensor:
        """Return attention weights (M, n, S) of some queries; zeros where nothing may be attended."""
        logits = torch.bmm(self.query[:, rows].to(self.key.dtype), self.key.transpose(1, 2))
        if self.mask is None:
            return logits.softmax(dim=-1)
        return logits.masked_fill_(~self.mask, float("-inf")).softmax(dim=-1).masked_fill_(~self.mask, 0.0)


class _Picture(NamedTuple):
    """One picture: the axis to contract first, the other one, and the value (M, S_first, S_second · Dv).

    Contracting an axis first costs N·H·W·C products whichever it is, then the other one N·C times its length: the
    longer axis goes first.
    """

    first: _Axis
    second: _Axis
    value: Tensor

    def tiles(self, budget: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield ranges of n queries whose Z fits into ``budget`` bytes, and memory (M, n, S_second · Dv) for it."""
        heads, queries, _ = self.first.query.shape
        width = self.value.shape[2]
        step = heads * width * self.value.element_size() * _TILE_STEP
        size = min(max(budget // step, 1) * _TILE_STEP, queries)
        memory = self.value.new_empty(heads * size * width)
        for start in range(0, queries, size):
            count = min(size, queries - start)
            yield slice(start, start + count), memory[: heads * count * width].view(heads, count, width)

    def contract_first(self, a_first: Tensor, memory: Tensor) -> Tensor:
        """Return Z (M · n, S_second, Dv) = a_first (M, n, S_first) times the value, in ``memory``."""
        torch.bmm(a_first.to(memory.dtype), self.value, out=memory)
        return memory.view(memory.shape[0] * memory.shape[1], self.second.key.shape[1], -1)


def _forward(
    q_x: Tensor,
    q_y: Tensor,
    k_x: Tensor,
    k_y: Tensor,
    value: Tensor,
    mask_x: Tensor | None,
    mask_y: Tensor | None,
    scale: float,
) -> Tensor:
    output = empty_output(q_x, value)
    budget = tile_bytes(value.device.type)
    for index in range(len(value)):
        picture = _picture(index, q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale)
        for rows, memory in picture.tiles(budget):
            a_second = picture.second.weights(rows)
            z = picture.contract_first(picture.first.weights(rows), memory)
            tile = torch.bmm(a_second.to(z.dtype).view(len(z), 1, -1), z)
            output[index, :, rows] = tile.view(*a_second.shape[:2], -1)
    return output


def _backward(
    gradient: Tensor,
    output: Tensor,
    q_x: Tensor,
    q_y: Tensor,
    k_x: Tensor,
    k_y: Tensor,
    value: Tensor,
    mask_x: Tensor | None,
    mask_y: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dq_x, dq_y, dk_x, dk_y = (tensor.new_empty(tensor.shape) for tensor in (q_x, q_y, k_x, k_y))
    dvalue = empty_value_gradient(value).zero_()
    dvalue_by_axis = dvalue.transpose(2, 3) if _width_first(value) else dvalue
    by_axis = [(dq_x, dk_x), (dq_y, dk_y)] if _width_first(value) else [(dq_y, dk_y), (dq_x, dk_x)]
    budget = 2 * tile_bytes(value.device.type)
    for index in range(len(value)):
        picture = _picture(index, q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale)
        axes = picture.first, picture.second
        dkeys = [torch.zeros_like(axis.key) for axis in axes]
        dvalues = dvalue_by_axis[index].flatten(2).to(picture.first.key.dtype)
        for rows, memory in picture.tiles(budget):
            weights = a_first, a_second = picture.first.weights(rows), picture.second.weights(rows)
            grad = gradient[index, :, rows].to(memory.dtype)
            z = picture.contract_first(a_first, memory)
            da_second = torch.bmm(grad.reshape(len(z), 1, -1), z.transpose(1, 2)).view_as(a_second)
            spread = memory.view(*a_second.shape, -1)
            torch.mul(a_second.to(memory.dtype).unsqueeze(-1), grad.unsqueeze(2), out=spread)
            da_first = torch.bmm(memory, picture.value.transpose(1, 2))
            _add_product(dvalues, a_first, memory)
            for axis, a, da, (dquery, _), dkey in zip(
                axes, weights, (da_first, da_second), by_axis, dkeys, strict=True
            ):
                dlogits = torch._softmax_backward_data(da.to(a.dtype), a, -1, a.dtype)
                dquery[index, :, rows] = torch.bmm(dlogits, axis.key)
                _add_product(dkey, dlogits, axis.query[:, rows].to(dlogits.dtype))
        for (_, dkey), total in zip(by_axis, dkeys, strict=True):
            dkey[index] = total * scale
        if dvalues.dtype != dvalue.dtype:
            dvalue_by_axis[index] = dvalues.view_as(dvalue_by_axis[index])
    return dq_x, dq_y, dk_x, dk_y, dvalue


def _picture(
    index: int,
    q_x: Tensor,
    q_y: Tensor,
    k_x: Tensor,
    k_y: Tensor,
    value: Tensor,
    mask_x: Tensor | None,
    mask_y: Tensor | None,
    scale: float,
) -> _Picture:
    logits_dtype = torch.promote_types(value.dtype, torch.float32)
    x, y = (
        _Axis(query[index], key[index].to(logits_dtype) * scale, None if mask is None else mask[index])
        for query, key, mask in ((q_x, k_x, mask_x), (q_y, k_y, mask_y))
    )
    values = value[index].to(_product_dtype(value))
    if _width_first(value):
        return _Picture(x, y, values.transpose(1, 2).flatten(2))
    return _Picture(y, x, values.flatten(2))


def _width_first(value: Tensor) -> bool:
    return value.shape[3] >= value.shape[2]


def _product_dtype(value: Tensor) -> torch.dtype:
    """Return the dtype of the large matrix products; a CPU without instructions for bfloat16 is faster in float32."""
    if value.device.type != "cpu" or value.dtype not in (torch.bfloat16, torch.float16):
        return value.dtype
    multiplies_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return value.dtype if value.dtype == torch.bfloat16 and multiplies_bfloat16 else torch.float32


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add aᵀ·b to total (M, S, K), a product in the dtype of b: a (M, n, S), b (M, n, K)."""
    a = a.transpose(1, 2).to(b.dtype)
    if b.dtype == total.dtype:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b)


rcda_tiled = register("rcda_tiled", _forward, _backward)

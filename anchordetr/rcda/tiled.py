"""RCDA on any device that never holds Z of all queries: tiles of queries, and a backward pass that recomputes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from anchordetr.rcda.onednn import batched_product
from anchordetr.rcda.operator import empty_output, empty_value_gradient, register

_CPU_TILE_BYTES = 4 << 20
_DEVICE_TILE_BYTES = 128 << 20
_TILE_STEP = 16


def tile_bytes(device_type: str) -> int:
    """Return how much memory the Z of a tile may take in the forward pass; the backward pass takes twice that."""
    return _CPU_TILE_BYTES if device_type == "cpu" else _DEVICE_TILE_BYTES


class _Axis(NamedTuple):
    """One axis of one item.

    Attributes:
        query: (M, N, D). key: (M, S, D), times the scale, in the dtype of logits and softmax.
        mask: (S,), True = may be attended.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None

    def weights(self, heads: slice, rows: slice) -> Tensor:
        """Return attention weights (m, n, S) of some queries; zeros where nothing may be attended."""
        logits = torch.bmm(self.query[heads, rows].to(self.key.dtype), self.key[heads].transpose(1, 2))
        if self.mask is None:
            return logits.softmax(dim=-1)
        return logits.masked_fill_(~self.mask, float("-inf")).softmax(dim=-1).masked_fill_(~self.mask, 0.0)


class _BatchItem(NamedTuple):
    """One item: the axis to contract first, the other one, and the value (M, S_first, S_second · Dv).

    Contracting an axis first costs N·H·W·C products whichever it is, then the other one N·C times its length: the
    longer axis goes first.
    """

    first: _Axis
    second: _Axis
    value: Tensor

    def tiles(self, budget: int) -> Iterator[tuple[slice, slice]]:
        """Yield ranges of m heads and n queries whose Z fits into ``budget`` bytes: one head at a time on a CPU."""
        heads, queries, _ = self.first.query.shape
        together = 1 if self.value.device.type == "cpu" else heads
        step = together * self.value.shape[2] * self.value.element_size() * _TILE_STEP
        size = max(budget // step, 1) * _TILE_STEP
        for head in range(0, heads, together):
            for start in range(0, queries, size):
                yield slice(head, head + together), slice(start, min(start + size, queries))

    def contract_first(self, a_first: Tensor, heads: slice) -> Tensor:
        """Return Z (m · n, S_second, Dv): a_first (m, n, S_first) times the value."""
        z = batched_product(a_first.to(self.value.dtype), self.value[heads])
        return z.view(z.shape[0] * z.shape[1], self.second.key.shape[1], -1)

    def output(self, heads: slice, rows: slice) -> Tensor:
        """Return the output (m, n, Dv) of some queries."""
        z = self.contract_first(self.first.weights(heads, rows), heads)
        a_second = self.second.weights(heads, rows)
        return torch.bmm(a_second.to(z.dtype).view(len(z), 1, -1), z).view(*a_second.shape[:2], -1)


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
        item = _image(index, q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale)
        for heads, rows in item.tiles(budget):
            output[index, heads, rows] = item.output(heads, rows)
    return output


class _Gradients(NamedTuple):
    """Gradients of one item, which tiles write or add to.

    Attributes:
        queries: two of (M, N, D), of the first axis and of the second. keys: two of (M, S, D), before the scale.
        value: (M, S_first, S_second · Dv).
    """

    queries: tuple[Tensor, Tensor]
    keys: tuple[Tensor, Tensor]
    value: Tensor

    def add_tile(self, item: _BatchItem, gradient: Tensor, heads: slice, rows: slice) -> None:
        """Add what one tile contributes; gradient (m, n, Dv) of its output."""
        a_first, a_second = item.first.weights(heads, rows), item.second.weights(heads, rows)
        z = item.contract_first(a_first, heads)
        gradient = gradient.to(z.dtype)
        da_second = torch.bmm(gradient.reshape(len(z), 1, -1), z.transpose(1, 2)).view_as(a_second)
        spread = z.view(*a_second.shape, -1)
        torch.mul(a_second.to(z.dtype).unsqueeze(-1), gradient.unsqueeze(2), out=spread)
        spread = spread.flatten(2)
        da_first = batched_product(spread, item.value[heads].transpose(1, 2))
        self.value[heads] += batched_product(a_first.transpose(1, 2).to(spread.dtype), spread)
        parts = zip(item[:2], (a_first, a_second), (da_first, da_second), self.queries, self.keys, strict=True)
        for axis, a, da, dquery, dkey in parts:
            dlogits = torch._softmax_backward_data(da.to(a.dtype), a, -1, a.dtype)
            dquery[heads, rows] = torch.bmm(dlogits, axis.key[heads])
            dkey[heads].baddbmm_(dlogits.transpose(1, 2), axis.query[heads, rows].to(dlogits.dtype))


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
    by_axis = ((dq_x, dk_x), (dq_y, dk_y)) if _width_first(value) else ((dq_y, dk_y), (dq_x, dk_x))
    (dq_first, dk_first), (dq_second, dk_second) = by_axis
    budget = 2 * tile_bytes(value.device.type)
    for index in range(len(value)):
        item = _image(index, q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale)
        keys = torch.zeros_like(item.first.key), torch.zeros_like(item.second.key)
        values = dvalue_by_axis[index].flatten(2).to(item.first.key.dtype)
        gradients = _Gradients((dq_first[index], dq_second[index]), keys, values)
        for heads, rows in item.tiles(budget):
            gradients.add_tile(item, gradient[index, heads, rows], heads, rows)
        for dkey, total in zip((dk_first, dk_second), keys, strict=True):
            dkey[index] = total * scale
        if values.dtype != dvalue.dtype:
            dvalue_by_axis[index] = values.view_as(dvalue_by_axis[index])
    return dq_x, dq_y, dk_x, dk_y, dvalue


def _image(
    index: int,
    q_x: Tensor,
    q_y: Tensor,
    k_x: Tensor,
    k_y: Tensor,
    value: Tensor,
    mask_x: Tensor | None,
    mask_y: Tensor | None,
    scale: float,
) -> _BatchItem:
    logits_dtype = torch.promote_types(value.dtype, torch.float32)
    x, y = (
        _Axis(query[index], key[index].to(logits_dtype) * scale, None if mask is None else mask[index])
        for query, key, mask in ((q_x, k_x, mask_x), (q_y, k_y, mask_y))
    )
    values = value[index].to(_product_dtype(value))
    if _width_first(value):
        return _BatchItem(x, y, values.transpose(1, 2).flatten(2))
    return _BatchItem(y, x, values.flatten(2))


def _width_first(value: Tensor) -> bool:
    return value.shape[3] >= value.shape[2]


def _product_dtype(value: Tensor) -> torch.dtype:
    """Return the dtype of the large matrix products; a CPU without instructions for bfloat16 is faster in float32."""
    if value.device.type != "cpu" or value.dtype not in (torch.bfloat16, torch.float16):
        return value.dtype
    multiplies_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return value.dtype if value.dtype == torch.bfloat16 and multiplies_bfloat16 else torch.float32


rcda_tiled = register("rcda_tiled", _forward, _backward)

"""RCDA by tiles of queries, on any device: Z is never complete in memory, and the backward pass recomputes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from anchordetr.rcda.onednn import batched_product, multiplies_bfloat16
from anchordetr.rcda.operands import Axis, Gradients, Operands, is_wide
from anchordetr.rcda.operator import empty_gradients, empty_output, register

_CPU_TILE_BYTES = 4 << 20
_DEVICE_TILE_BYTES = 128 << 20
_TILE_STEP = 16


def tile_bytes(device_type: str) -> int:
    """Return the largest size in bytes of the Z of a tile in the forward pass; the backward pass takes twice that."""
    return _CPU_TILE_BYTES if device_type == "cpu" else _DEVICE_TILE_BYTES


class _Tile(NamedTuple):
    """Ranges of m heads and n queries."""

    heads: slice
    rows: slice


class _BatchItem(NamedTuple):
    """One image: the longer axis, which is contracted first, the other one, and the value (M, S_first, S_second · Dv).

    The axes come without the dimension B. Their keys are multiplied by the scale, in the dtype of logits and softmax.
    """

    first: Axis
    second: Axis
    value: Tensor

    def tiles(self, budget: int) -> Iterator[_Tile]:
        """Yield tiles whose Z fits into ``budget`` bytes: one head at a time on a CPU."""
        heads, queries, _ = self.first.query.shape
        together = 1 if self.value.device.type == "cpu" else heads
        step = together * self.value.shape[2] * self.value.element_size() * _TILE_STEP
        size = max(budget // step, 1) * _TILE_STEP
        for head in range(0, heads, together):
            for start in range(0, queries, size):
                yield _Tile(slice(head, head + together), slice(start, min(start + size, queries)))

    def contract_first(self, a_first: Tensor, heads: slice) -> Tensor:
        """Return Z (m · n, S_second, Dv): a_first (m, n, S_first) times the value."""
        z = batched_product(a_first.to(self.value.dtype), self.value[heads])
        return z.view(z.shape[0] * z.shape[1], self.second.key.shape[1], -1)

    def output(self, tile: _Tile) -> Tensor:
        """Return the output (m, n, Dv) of some queries."""
        z = self.contract_first(_weights(self.first, tile), tile.heads)
        a_second = _weights(self.second, tile)
        return torch.bmm(a_second.to(z.dtype).view(len(z), 1, -1), z).view(*a_second.shape[:2], -1)


def _weights(axis: Axis, tile: _Tile) -> Tensor:
    """Return attention weights (m, n, S) of some queries of an image; zeros where nothing may be attended."""
    logits = torch.bmm(axis.query[tile].to(axis.key.dtype), axis.key[tile.heads].transpose(1, 2))
    if axis.bias is not None:
        logits += axis.bias[tile]
    if axis.mask is not None:
        logits.masked_fill_(~axis.mask, float("-inf"))
    weights = logits.softmax(dim=-1)
    if axis.mask is not None:
        weights.masked_fill_(~axis.mask, 0.0)
    if axis.bias is not None:
        weights.masked_fill_(axis.bias[tile] == float("-inf"), 0.0)
    return weights


def _forward(operands: Operands) -> Tensor:
    output = empty_output(operands)
    budget = tile_bytes(output.device.type)
    for index in range(len(output)):
        item = _batch_item(operands, index)
        for tile in item.tiles(budget):
            output[index][tile] = item.output(tile)
    return output


class _ItemGradients(NamedTuple):
    """Gradients of one image, which tiles write (queries, biases) or add to (keys, value).

    Attributes:
        first, second: as in :class:`_BatchItem`; the keys before the scale.
        value: (M, S_first, S_second · Dv).
    """

    first: Axis
    second: Axis
    value: Tensor

    def add_tile(self, item: _BatchItem, gradient: Tensor, tile: _Tile) -> None:
        """Add the contribution of one tile.

        Args:
            gradient: (m, n, Dv) of the tile's output.
        """
        a_first, a_second = _weights(item.first, tile), _weights(item.second, tile)
        z = item.contract_first(a_first, tile.heads)
        gradient = gradient.to(z.dtype)
        da_second = torch.bmm(gradient.reshape(len(z), 1, -1), z.transpose(1, 2)).view_as(a_second)
        dz = z.view(*a_second.shape, -1)
        torch.mul(a_second.to(z.dtype).unsqueeze(-1), gradient.unsqueeze(2), out=dz)
        dz = dz.flatten(2)
        da_first = batched_product(dz, item.value[tile.heads].transpose(1, 2))
        self.value[tile.heads] += batched_product(a_first.transpose(1, 2).to(dz.dtype), dz)
        _add_axis(self.first, item.first, _softmax_backward(da_first, a_first), tile)
        _add_axis(self.second, item.second, _softmax_backward(da_second, a_second), tile)


def _softmax_backward(da: Tensor, a: Tensor) -> Tensor:
    """Return the gradient of the logits from that of the attention weights ``a``, in the dtype of ``a``."""
    products = da.to(a.dtype) * a
    return torch.addcmul(products, a, products.sum(dim=-1, keepdim=True), value=-1, out=products)


def _add_axis(gradients: Axis, axis: Axis, dlogits: Tensor, tile: _Tile) -> None:
    """Write or add what the logits (m, n, S) of a tile contribute to the gradients of an axis."""
    gradients.query[tile] = torch.bmm(dlogits, axis.key[tile.heads])
    gradients.key[tile.heads].baddbmm_(dlogits.transpose(1, 2), axis.query[tile].to(dlogits.dtype))
    if gradients.bias is not None:
        gradients.bias[tile] = dlogits


def _backward(gradient: Tensor, output: Tensor, operands: Operands) -> Gradients:
    gradients = empty_gradients(operands)
    dvalue = _first_outside(gradients.value.zero_())
    budget = 2 * tile_bytes(output.device.type)
    for index in range(len(output)):
        item = _batch_item(operands, index)
        first, second = (
            axis.item(index)._replace(key=torch.zeros_like(key))
            for axis, key in zip(gradients.longer_first(), (item.first.key, item.second.key), strict=True)
        )
        sums = _ItemGradients(first, second, dvalue[index].flatten(2).to(first.key.dtype))
        for tile in item.tiles(budget):
            sums.add_tile(item, gradient[index][tile], tile)
        for axis, total in zip(gradients.longer_first(), (first.key, second.key), strict=True):
            axis.key[index] = total * operands.scale
        if sums.value.dtype != dvalue.dtype:
            dvalue[index] = sums.value.view_as(dvalue[index])
    return gradients


def _batch_item(operands: Operands, index: int) -> _BatchItem:
    logits_dtype = torch.promote_types(operands.value.dtype, torch.float32)
    axes = (axis.item(index) for axis in operands.longer_first())
    first, second = (axis._replace(key=axis.key.to(logits_dtype) * operands.scale) for axis in axes)
    value = _first_outside(operands.value)[index].to(_product_dtype(operands.value))
    return _BatchItem(first, second, value.flatten(2))


def _first_outside(value: Tensor) -> Tensor:
    """View (B, M, H, W, Dv) as (B, M, S_first, S_second, Dv)."""
    return value.transpose(2, 3) if is_wide(value) else value


def _product_dtype(value: Tensor) -> torch.dtype:
    """Return the dtype of the large matrix products; a CPU without instructions for bfloat16 is faster in float32."""
    if value.device.type != "cpu" or value.dtype not in (torch.bfloat16, torch.float16):
        return value.dtype
    return value.dtype if value.dtype == torch.bfloat16 and multiplies_bfloat16() else torch.float32


rcda_tiled = register("rcda_tiled", _forward, _backward)

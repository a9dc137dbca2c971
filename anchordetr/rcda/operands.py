"""The arguments of every backend of RCDA: two axes and the value."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """Attention along one axis of the map, of S columns (``x``) or rows (``y``).

    Attributes:
        query: (B, M, N, D). key: (B, M, S, D).
        mask: (B, S), True = may be attended; None where all may.
        bias: (B, M, N, S), added to the logits after the scale; None where nothing is.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None = None
    bias: Tensor | None = None

    def to(self, dtype: torch.dtype) -> Axis:
        """Return the axis with queries, keys and bias in another dtype."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return Axis(self.query.to(dtype), self.key.to(dtype), self.mask, bias)

    def with_full_bias(self, batch: int, heads: int) -> Axis:
        """Return the axis with a bias whose B or M of 1 is expanded."""
        if self.bias is None:
            return self
        return Axis(self.query, self.key, self.mask, self.bias.expand(batch, heads, -1, -1))

    def within_range(self, scale: float) -> Axis:
        """Return the axis with zeros for masked keys, and with queries and biases whose logits are finite.

        Queries are divided by powers of two: by 1, unless products exceed a quarter of the largest number.
        """
        if self.query.numel() == 0 or self.key.numel() == 0:
            return self
        key = self.key if self.mask is None else self.key.masked_fill(~self.mask[:, None, :, None], 0.0)
        largest = torch.finfo(torch.promote_types(key.dtype, torch.float32)).max
        limit = largest / (4 * key.shape[-1] * max(abs(scale), 1.0))
        largest_key, largest_query = key.detach().abs().amax(dim=(-2, -1), keepdim=True), self.query.detach().abs()
        factor = limit / largest_key / largest_query.amax(dim=-1, keepdim=True)
        query = self.query * factor.clamp(max=1.0).log2().floor().exp2()
        if self.bias is None:
            return Axis(query, key, self.mask)
        bias = self.bias.clamp(-largest / 2, largest / 2)
        return Axis(query, key, self.mask, torch.where(self.bias == float("-inf"), self.bias, bias))

    def visible(self) -> Tensor | None:
        """Return what may be attended, where the mask is True and the bias not -inf, to broadcast to (B, M, N, S)."""
        mask = None if self.mask is None else self.mask[:, None, None, :]
        if self.bias is None:
            return mask
        has_finite_bias = self.bias.detach() != float("-inf")
        return has_finite_bias if mask is None else has_finite_bias & mask

    def item(self, index: int) -> Axis:
        """Return the axis of one image, without the dimension B."""
        mask, bias = (None if part is None else part[index] for part in (self.mask, self.bias))
        return Axis(self.query[index], self.key[index], mask, bias)


class Operands(NamedTuple):
    """The arguments of :func:`rcda`.

    Attributes:
        x, y: the axes of the W columns and of the H rows.
        value: (B, M, H, W, Dv).
        scale: factor of ``query · key``.
    """

    x: Axis
    y: Axis
    value: Tensor
    scale: float

    @classmethod
    def unflatten(
        cls,
        q_x: Tensor,
        q_y: Tensor,
        k_x: Tensor,
        k_y: Tensor,
        value: Tensor,
        bias_x: Tensor | None,
        bias_y: Tensor | None,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
        scale: float,
    ) -> Operands:
        """Return the operands from the flat arguments of an operator of ``torch.library``."""
        return cls(Axis(q_x, k_x, mask_x, bias_x), Axis(q_y, k_y, mask_y, bias_y), value, scale)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """Return all but the scale, in the order of :meth:`unflatten`: first the seven that have gradients."""
        x, y = self.x, self.y
        return x.query, y.query, x.key, y.key, self.value, x.bias, y.bias, x.mask, y.mask

    def to(self, dtype: torch.dtype) -> Operands:
        """Return the operands with queries, keys, biases and value in another dtype."""
        return Operands(self.x.to(dtype), self.y.to(dtype), self.value.to(dtype), self.scale)

    def with_full_biases(self) -> Operands:
        """Return the operands with biases whose B or M of 1 is expanded."""
        batch, heads = self.value.shape[:2]
        x, y = (axis.with_full_bias(batch, heads) for axis in (self.x, self.y))
        return Operands(x, y, self.value, self.scale)

    def within_range(self) -> Operands:
        """Return the operands with queries whose logits are finite; float16 cannot exceed the range of float32."""
        if self.value.dtype == torch.float16:
            return self
        x, y = (axis.within_range(self.scale) for axis in (self.x, self.y))
        return Operands(x, y, self.value, self.scale)

    def attends_to_nothing(self) -> bool:
        """Whether the output is zero or has no number: without queries, locations or channels of the value."""
        return self.value.numel() == 0 or self.x.query.shape[2] == 0

    def is_empty(self) -> bool:
        """Whether a dimension of queries or value is zero."""
        return self.value.numel() == 0 or self.x.query.numel() == 0

    def longer_first(self) -> tuple[Axis, Axis]:
        """Return the axis to contract first, then the other one.

        The first contraction costs N·H·W·C multiplications for either axis, the second one N·C times its axis's length.
        """
        return (self.x, self.y) if is_wide(self.value) else (self.y, self.x)


class Gradients(NamedTuple):
    """Gradients of the operands: axes whose ``query``, ``key`` and ``bias`` are gradients, and that of the value."""

    x: Axis
    y: Axis
    value: Tensor

    def longer_first(self) -> tuple[Axis, Axis]:
        """Return the gradients of the axis that is contracted first, then those of the other one."""
        return (self.x, self.y) if is_wide(self.value) else (self.y, self.x)

    def flatten(self) -> tuple[Tensor, ...]:
        """Return the seven gradients in the order of :meth:`Operands.unflatten`, empty where there is none."""
        biases = (self.value.new_empty(0) if axis.bias is None else axis.bias for axis in (self.x, self.y))
        return (self.x.query, self.y.query, self.x.key, self.y.key, self.value, *biases)


def is_wide(value: Tensor) -> bool:
    """Whether a map (B, M, H, W, Dv) is at least as wide as high, so that x is contracted first."""
    return value.shape[3] >= value.shape[2]

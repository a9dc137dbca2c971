"""RCDA as Triton kernels: forward and backward, without Z in memory and without atomics.

Inside, ``first`` is the axis that is contracted first, the longer one, and ``second`` the other; a map that is higher
than wide is handed over transposed, by its strides. Letters of the kernels: a tile has BLOCK_N queries, BLOCK_F places
of the first and BLOCK_S of the second axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from anchordetr.rcda.operator import empty_output, empty_value_gradient, register, triton_is_interpreted

_BLOCK_S = 16
_GRADIENT_TILE = 64


def _tuned(*options: dict[str, int]) -> Any:
    """Decorate a kernel so that the fastest of some block sizes is found once per problem; the first if interpreted."""
    if triton_is_interpreted():
        return triton.heuristics({name: lambda _, size=size: size for name, size in options[0].items()})
    configs = [
        triton.Config(option, num_warps=warps, num_stages=stages)
        for option in options
        for warps, stages in ((4, 2), (4, 3), (8, 2))
    ]
    return triton.autotune(configs, key=["queries", "length_f", "length_s", "DEPTH", "DEPTH_V"])


@triton.jit
def _rows(base, stride, stride_channel, start, length, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Load (ROWS, CHANNELS), zeros outside of the tensor."""
    row = start + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (row[:, None] < length) & (channel[None, :] < channels)
    return tl.load(base + row[:, None] * stride + channel[None, :] * stride_channel, mask=inside, other=0.0)


@triton.jit
def _logits(
    query, key, mask, start, length, scale, HAS_MASK: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr
):
    """Logits (BLOCK_N, SIZE) of a tile of keys (SIZE, DEPTH), -inf where nothing may be attended."""
    place = start + tl.arange(0, SIZE)
    is_valid = place < length
    if HAS_MASK:
        is_valid = is_valid & (tl.load(mask + place, mask=is_valid, other=0) != 0)
    logits = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
    return tl.where(is_valid[None, :], logits, float("-inf"))


@triton.jit
def _log_sum_exp(
    query,
    keys,
    stride,
    stride_channel,
    mask,
    length,
    depth,
    scale,
    HAS_MASK: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Logarithm of the softmax's denominator (BLOCK_N,), 0 where nothing may be attended."""
    top = tl.full((BLOCK_N,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(0, length, SIZE):
        key = _rows(keys, stride, stride_channel, start, length, depth, SIZE, DEPTH)
        logits = _logits(query, key, mask, start, length, scale, HAS_MASK, SIZE, PRECISION)
        new_top = tl.maximum(top, tl.max(logits, 1))
        finite = tl.where(new_top == float("-inf"), 0.0, new_top)
        total = total * tl.exp(top - finite) + tl.sum(tl.exp(logits - finite[:, None]), 1)
        top = new_top
    is_any = total > 0.0
    return tl.where(is_any, top + tl.log(tl.where(is_any, total, 1.0)), 0.0)


@_tuned({"BLOCK_N": 64, "BLOCK_F": 64}, {"BLOCK_N": 128, "BLOCK_F": 64}, {"BLOCK_N": 64, "BLOCK_F": 128})
@triton.jit
def _forward_kernel(
    query_f,
    query_s,
    key_f,
    key_s,
    value,
    mask_f,
    mask_s,
    output,
    qf_b,
    qf_m,
    qf_n,
    qf_d,
    qs_b,
    qs_m,
    qs_n,
    qs_d,
    kf_b,
    kf_m,
    kf_f,
    kf_d,
    ks_b,
    ks_m,
    ks_s,
    ks_d,
    v_b,
    v_m,
    v_s,
    v_f,
    v_d,
    mf_b,
    ms_b,
    o_b,
    o_m,
    o_n,
    o_d,
    heads,
    queries,
    length_f,
    length_s,
    depth,
    depth_v,
    scale,
    HAS_MASK_F: tl.constexpr,
    HAS_MASK_S: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPTH_V: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    first_query = tl.program_id(0) * BLOCK_N
    batch = (tl.program_id(1) // heads).to(tl.int64)
    head = (tl.program_id(1) % heads).to(tl.int64)
    key_f += batch * kf_b + head * kf_m
    key_s += batch * ks_b + head * ks_m
    value += batch * v_b + head * v_m
    mask_f += batch * mf_b
    mask_s += batch * ms_b
    qf = _rows(query_f + batch * qf_b + head * qf_m, qf_n, qf_d, first_query, queries, depth, BLOCK_N, DEPTH)
    qs = _rows(query_s + batch * qs_b + head * qs_m, qs_n, qs_d, first_query, queries, depth, BLOCK_N, DEPTH)
    lse_f = _log_sum_exp(
        qf, key_f, kf_f, kf_d, mask_f, length_f, depth, scale, HAS_MASK_F, BLOCK_F, BLOCK_N, DEPTH, PRECISION
    )
    lse_s = _log_sum_exp(
        qs, key_s, ks_s, ks_d, mask_s, length_s, depth, scale, HAS_MASK_S, BLOCK_S, BLOCK_N, DEPTH, PRECISION
    )

    sums = tl.zeros((BLOCK_N, DEPTH_V), tl.float32)
    place_s = tl.arange(0, BLOCK_S)
    for start_f in range(0, length_f, BLOCK_F):
        kf = _rows(key_f, kf_f, kf_d, start_f, length_f, depth, BLOCK_F, DEPTH)
        logits_f = _logits(qf, kf, mask_f, start_f, length_f, scale, HAS_MASK_F, BLOCK_F, PRECISION)
        a_f = tl.exp(logits_f - lse_f[:, None]).to(value.dtype.element_ty)
        for start_s in range(0, length_s, BLOCK_S):
            ks = _rows(key_s, ks_s, ks_d, start_s, length_s, depth, BLOCK_S, DEPTH)
            logits_s = _logits(qs, ks, mask_s, start_s, length_s, scale, HAS_MASK_S, BLOCK_S, PRECISION)
            a_s = tl.exp(logits_s - lse_s[:, None])
            for row in range(0, min(BLOCK_S, length_s - start_s)):
                values = _rows(value + (start_s + row) * v_s, v_f, v_d, start_f, length_f, depth_v, BLOCK_F, DEPTH_V)
                z = tl.dot(a_f, values, input_precision=PRECISION)
                weight = tl.sum(tl.where(place_s[None, :] == row, a_s, 0.0), 1)
                sums += weight[:, None] * z

    row_n = first_query + tl.arange(0, BLOCK_N)
    channel = tl.arange(0, DEPTH_V)
    tl.store(
        output + batch * o_b + head * o_m + row_n[:, None] * o_n + channel[None, :] * o_d,
        sums.to(output.dtype.element_ty),
        mask=(row_n[:, None] < queries) & (channel[None, :] < depth_v),
    )


@_tuned({"BLOCK_F": 64}, {"BLOCK_F": 32}, {"BLOCK_F": 128})
@triton.jit
def _query_gradient_kernel(
    query_f,
    query_s,
    key_f,
    key_s,
    value,
    mask_f,
    mask_s,
    gradient,
    delta,
    dquery_f,
    dquery_s,
    dkey_f,
    dkey_s,
    lse_f_out,
    lse_s_out,
    qf_b,
    qf_m,
    qf_n,
    qf_d,
    qs_b,
    qs_m,
    qs_n,
    qs_d,
    kf_b,
    kf_m,
    kf_f,
    kf_d,
    ks_b,
    ks_m,
    ks_s,
    ks_d,
    v_b,
    v_m,
    v_s,
    v_f,
    v_d,
    mf_b,
    ms_b,
    g_b,
    g_m,
    g_n,
    g_d,
    heads,
    queries,
    length_f,
    length_s,
    depth,
    depth_v,
    scale,
    HAS_MASK_F: tl.constexpr,
    HAS_MASK_S: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPTH_V: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    """Gradients of a tile of queries, and what the tile adds to the gradients of the keys, each in a place of its own.

    dquery_*: (B · M, N, D). dkey_f: (tiles, B · M, F, D). dkey_s: (tiles, B · M, S, D). delta, lse_*: (B · M, N).
    """
    tile = tl.program_id(0)
    group = tl.program_id(1).to(tl.int64)
    groups = tl.num_programs(1)
    first_query = tile * BLOCK_N
    batch = group // heads
    head = group % heads
    key_f += batch * kf_b + head * kf_m
    key_s += batch * ks_b + head * ks_m
    value += batch * v_b + head * v_m
    mask_f += batch * mf_b
    mask_s += batch * ms_b
    dkey_f += (tile * groups + group) * length_f * depth
    dkey_s += (tile * groups + group) * length_s * depth
    qf = _rows(query_f + batch * qf_b + head * qf_m, qf_n, qf_d, first_query, queries, depth, BLOCK_N, DEPTH)
    qs = _rows(query_s + batch * qs_b + head * qs_m, qs_n, qs_d, first_query, queries, depth, BLOCK_N, DEPTH)
    grad = _rows(gradient + batch * g_b + head * g_m, g_n, g_d, first_query, queries, depth_v, BLOCK_N, DEPTH_V)
    grad = grad.to(tl.float32)
    lse_f = _log_sum_exp(
        qf, key_f, kf_f, kf_d, mask_f, length_f, depth, scale, HAS_MASK_F, BLOCK_F, BLOCK_N, DEPTH, PRECISION
    )
    lse_s = _log_sum_exp(
        qs, key_s, ks_s, ks_d, mask_s, length_s, depth, scale, HAS_MASK_S, BLOCK_S, BLOCK_N, DEPTH, PRECISION
    )
    row_n = first_query + tl.arange(0, BLOCK_N)
    is_query = row_n < queries
    tl.store(lse_f_out + group * queries + row_n, lse_f, mask=is_query)
    tl.store(lse_s_out + group * queries + row_n, lse_s, mask=is_query)
    mean = tl.load(delta + group * queries + row_n, mask=is_query, other=0.0)

    dqf = tl.zeros((BLOCK_N, DEPTH), tl.float32)
    dqs = tl.zeros((BLOCK_N, DEPTH), tl.float32)
    place_s = tl.arange(0, BLOCK_S)
    channel = tl.arange(0, DEPTH)
    for start_f in range(0, length_f, BLOCK_F):
        kf = _rows(key_f, kf_f, kf_d, start_f, length_f, depth, BLOCK_F, DEPTH)
        logits_f = _logits(qf, kf, mask_f, start_f, length_f, scale, HAS_MASK_F, BLOCK_F, PRECISION)
        a_f = tl.exp(logits_f - lse_f[:, None])
        da_f = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
        for start_s in range(0, length_s, BLOCK_S):
            ks = _rows(key_s, ks_s, ks_d, start_s, length_s, depth, BLOCK_S, DEPTH)
            logits_s = _logits(qs, ks, mask_s, start_s, length_s, scale, HAS_MASK_S, BLOCK_S, PRECISION)
            a_s = tl.exp(logits_s - lse_s[:, None])
            da_s = tl.zeros((BLOCK_N, BLOCK_S), tl.float32)
            for row in range(0, min(BLOCK_S, length_s - start_s)):
                values = _rows(value + (start_s + row) * v_s, v_f, v_d, start_f, length_f, depth_v, BLOCK_F, DEPTH_V)
                z = tl.dot(a_f.to(values.dtype), values, input_precision=PRECISION)
                is_row = place_s[None, :] == row
                da_s = tl.where(is_row, tl.sum(grad * z, 1)[:, None], da_s)
                weight = tl.sum(tl.where(is_row, a_s, 0.0), 1)
                spread = (weight[:, None] * grad).to(values.dtype)
                da_f += tl.dot(spread, tl.trans(values), input_precision=PRECISION)
            # da_s of this part of the first axis; its mean over the softmax is subtracted with the first part
            dlogits_s = a_s * (da_s - tl.where(start_f == 0, mean, 0.0)[:, None]) * scale
            dqs += tl.dot(dlogits_s.to(ks.dtype), ks, input_precision=PRECISION)
            dks = tl.dot(tl.trans(dlogits_s.to(qs.dtype)), qs, input_precision=PRECISION)
            place = start_s + place_s
            target = dkey_s + place[:, None] * depth + channel[None, :]
            inside = (place[:, None] < length_s) & (channel[None, :] < depth)
            if start_f > 0:
                tl.debug_barrier()
                dks += tl.load(target, mask=inside, other=0.0)
            tl.store(target, dks, mask=inside)
        dlogits_f = a_f * (da_f - mean[:, None]) * scale
        dqf += tl.dot(dlogits_f.to(kf.dtype), kf, input_precision=PRECISION)
        dkf = tl.dot(tl.trans(dlogits_f.to(qf.dtype)), qf, input_precision=PRECISION)
        place = start_f + tl.arange(0, BLOCK_F)
        tl.store(
            dkey_f + place[:, None] * depth + channel[None, :],
            dkf,
            mask=(place[:, None] < length_f) & (channel[None, :] < depth),
        )

    target = group * queries * depth + row_n[:, None] * depth + channel[None, :]
    inside = is_query[:, None] & (channel[None, :] < depth)
    tl.store(dquery_f + target, dqf.to(dquery_f.dtype.element_ty), mask=inside)
    tl.store(dquery_s + target, dqs.to(dquery_s.dtype.element_ty), mask=inside)


@_tuned(
    {"BLOCK_N": 64, "BLOCK_F": 64, "ROWS": 4},
    {"BLOCK_N": 64, "BLOCK_F": 32, "ROWS": 4},
    {"BLOCK_N": 64, "BLOCK_F": 64, "ROWS": 2},
)
@triton.jit
def _value_gradient_kernel(
    query_f,
    query_s,
    key_f,
    key_s,
    mask_f,
    mask_s,
    gradient,
    lse_f_in,
    lse_s_in,
    dvalue,
    qf_b,
    qf_m,
    qf_n,
    qf_d,
    qs_b,
    qs_m,
    qs_n,
    qs_d,
    kf_b,
    kf_m,
    kf_f,
    kf_d,
    ks_b,
    ks_m,
    ks_s,
    ks_d,
    v_b,
    v_m,
    v_s,
    v_f,
    v_d,
    mf_b,
    ms_b,
    g_b,
    g_m,
    g_n,
    g_d,
    heads,
    queries,
    length_f,
    length_s,
    depth,
    depth_v,
    scale,
    HAS_MASK_F: tl.constexpr,
    HAS_MASK_S: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPTH_V: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_F: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Gradient of a tile of the value, ROWS places of the second axis, from all queries."""
    parts_f = tl.cdiv(length_f, BLOCK_F)
    start_f = (tl.program_id(0) % parts_f) * BLOCK_F
    start_s = (tl.program_id(0) // parts_f) * ROWS
    group = tl.program_id(1).to(tl.int64)
    batch = group // heads
    head = group % heads
    query_f += batch * qf_b + head * qf_m
    query_s += batch * qs_b + head * qs_m
    gradient += batch * g_b + head * g_m
    kf = _rows(key_f + batch * kf_b + head * kf_m, kf_f, kf_d, start_f, length_f, depth, BLOCK_F, DEPTH)
    ks = _rows(key_s + batch * ks_b + head * ks_m, ks_s, ks_d, start_s, length_s, depth, ROWS, DEPTH).to(tl.float32)
    place_s = start_s + tl.arange(0, ROWS)
    is_valid_s = place_s < length_s
    if HAS_MASK_S:
        is_valid_s = is_valid_s & (tl.load(mask_s + batch * ms_b + place_s, mask=is_valid_s, other=0) != 0)

    sums = tl.zeros((BLOCK_F, ROWS * DEPTH_V), tl.float32)
    for first_query in range(0, queries, BLOCK_N):
        qf = _rows(query_f, qf_n, qf_d, first_query, queries, depth, BLOCK_N, DEPTH)
        qs = _rows(query_s, qs_n, qs_d, first_query, queries, depth, BLOCK_N, DEPTH).to(tl.float32)
        grad = _rows(gradient, g_n, g_d, first_query, queries, depth_v, BLOCK_N, DEPTH_V)
        row_n = first_query + tl.arange(0, BLOCK_N)
        lse_f = tl.load(lse_f_in + group * queries + row_n, mask=row_n < queries, other=0.0)
        lse_s = tl.load(lse_s_in + group * queries + row_n, mask=row_n < queries, other=0.0)
        logits_f = _logits(qf, kf, mask_f + batch * mf_b, start_f, length_f, scale, HAS_MASK_F, BLOCK_F, PRECISION)
        a_f = tl.exp(logits_f - lse_f[:, None]).to(grad.dtype)
        logits_s = tl.sum(qs[:, None, :] * ks[None, :, :], 2) * scale
        a_s = tl.exp(tl.where(is_valid_s[None, :], logits_s, float("-inf")) - lse_s[:, None])
        spread = a_s[:, :, None] * grad.to(tl.float32)[:, None, :]
        spread = tl.reshape(spread, (BLOCK_N, ROWS * DEPTH_V)).to(grad.dtype)
        sums += tl.dot(tl.trans(a_f), spread, input_precision=PRECISION)

    sums = tl.reshape(sums, (BLOCK_F, ROWS, DEPTH_V))
    place_f = start_f + tl.arange(0, BLOCK_F)
    channel = tl.arange(0, DEPTH_V)
    inside = (place_f[:, None, None] < length_f) & (place_s[None, :, None] < length_s)
    target = place_f[:, None, None] * v_f + place_s[None, :, None] * v_s + channel[None, None, :] * v_d
    tl.store(
        dvalue + batch * v_b + head * v_m + target,
        sums.to(dvalue.dtype.element_ty),
        mask=inside & (channel[None, None, :] < depth_v),
    )


class _Launch:
    """Arguments that the kernels share, ordered by which axis goes first."""

    def __init__(
        self,
        q_x: Tensor,
        q_y: Tensor,
        k_x: Tensor,
        k_y: Tensor,
        value: Tensor,
        mask_x: Tensor | None,
        mask_y: Tensor | None,
        scale: float,
    ) -> None:
        self.x_first = value.shape[3] >= value.shape[2]
        mask_x, mask_y = (None if mask is None else mask.contiguous() for mask in (mask_x, mask_y))
        self.queries, self.keys, self.masks = (
            ((q_x, q_y), (k_x, k_y), (mask_x, mask_y)) if self.x_first else ((q_y, q_x), (k_y, k_x), (mask_y, mask_x))
        )
        self.value = self.second_first(value)
        batch, self.heads, self.length_s, self.length_f, depth_v = self.value.shape
        self.num_queries, depth = q_x.shape[2:]
        self.groups = batch * self.heads
        self.sizes = (self.heads, self.num_queries, self.length_f, self.length_s, depth, depth_v, scale)
        self.constants: dict[str, Any] = {
            "HAS_MASK_F": self.masks[0] is not None,
            "HAS_MASK_S": self.masks[1] is not None,
            "PRECISION": _precision(value),
            "DEPTH": max(triton.next_power_of_2(depth), 16),
            "DEPTH_V": max(triton.next_power_of_2(depth_v), 16),
        }

    def second_first(self, value: Tensor) -> Tensor:
        """View (B, M, H, W, Dv) as (B, M, S, F, Dv)."""
        return value if self.x_first else value.transpose(2, 3)

    @property
    def mask_arguments(self) -> tuple[Tensor, Tensor]:
        """The masks as bytes; where there is none, any tensor, which is not read."""
        first, second = (self.queries[0] if mask is None else mask.view(torch.uint8) for mask in self.masks)
        return first, second

    @property
    def mask_strides(self) -> tuple[int, int]:
        first, second = (0 if mask is None else mask.stride(0) for mask in self.masks)
        return first, second

    def strides(self, *last: Tensor, value: Tensor | None = None) -> list[int]:
        """Strides in the order of the kernels' arguments; of ``value`` instead of the value if given."""
        tensors = (*self.queries, *self.keys, self.value if value is None else value)
        return [
            *(stride for tensor in tensors for stride in tensor.stride()),
            *self.mask_strides,
            *(stride for tensor in last for stride in tensor.stride()),
        ]


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
    launch = _Launch(q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale)
    output = empty_output(q_x, value)
    _forward_kernel[lambda meta: (triton.cdiv(launch.num_queries, meta["BLOCK_N"]), launch.groups)](
        *launch.queries,
        *launch.keys,
        launch.value,
        *launch.mask_arguments,
        output,
        *launch.strides(output),
        *launch.sizes,
        **launch.constants,
        BLOCK_S=_BLOCK_S,
    )
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
    launch = _Launch(q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale)
    dq_f, dq_s = (query.new_empty(query.shape) for query in launch.queries)
    dvalue = empty_value_gradient(value)
    tiles = triton.cdiv(launch.num_queries, _GRADIENT_TILE)
    dk_f, dk_s = (key.new_empty(tiles, *key.shape, dtype=torch.float32) for key in launch.keys)
    delta = (gradient.float() * output.float()).sum(dim=-1).contiguous()
    lse_f, lse_s = torch.empty_like(delta), torch.empty_like(delta)
    _query_gradient_kernel[(tiles, launch.groups)](
        *launch.queries,
        *launch.keys,
        launch.value,
        *launch.mask_arguments,
        gradient,
        delta,
        dq_f,
        dq_s,
        dk_f,
        dk_s,
        lse_f,
        lse_s,
        *launch.strides(gradient),
        *launch.sizes,
        **launch.constants,
        BLOCK_S=_BLOCK_S,
        BLOCK_N=_GRADIENT_TILE,
    )
    dvalue_second_first = launch.second_first(dvalue)

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        parts = triton.cdiv(launch.length_f, meta["BLOCK_F"]) * triton.cdiv(launch.length_s, meta["ROWS"])
        return parts, launch.groups

    _value_gradient_kernel[grid](
        *launch.queries,
        *launch.keys,
        *launch.mask_arguments,
        gradient,
        lse_f,
        lse_s,
        dvalue_second_first,
        *launch.strides(gradient, value=dvalue_second_first),
        *launch.sizes,
        **launch.constants,
    )
    dkeys = [parts.sum(dim=0).to(value.dtype) for parts in (dk_f, dk_s)]
    if launch.x_first:
        return dq_f, dq_s, dkeys[0], dkeys[1], dvalue
    return dq_s, dq_f, dkeys[1], dkeys[0], dvalue


def _precision(value: Tensor) -> str:
    """Products of float32 in tf32 where torch's own are."""
    return "tf32" if value.is_cuda and torch.backends.cuda.matmul.allow_tf32 else "ieee"


def _on_its_device(run: Callable[..., Any]) -> Callable[..., Any]:
    """Launch kernels on the device of the first tensor, which need not be the current one."""

    def launch(*arguments: Any) -> Any:
        with torch.cuda.device_of(arguments[0]):
            return run(*arguments)

    return launch


rcda_triton = register("rcda_triton", _on_its_device(_forward), _on_its_device(_backward))

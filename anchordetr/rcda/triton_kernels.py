"""Triton kernels of RCDA, forward and backward, without Z in memory and without atomics.

Inside, ``first`` (``_f``) is the axis that is contracted first, the longer one, with F places, and ``second`` (``_s``)
the other, with S places. A tile has BLOCK_N queries, BLOCK_F places of the first and BLOCK_S of the second axis.

Layout of every tensor in memory, innermost dimension last, without gaps:

==================================== ===========================================
queries, gradient of the output      (B, N, M, D), (B, N, M, Dv)
keys                                 (B, F, M, D), (B, S, M, D)
value                                (B, S, F, M, Dv) if IS_WIDE, else (B, F, S, M, Dv)
masks, biases (None where not given) (B, F) bytes, (B, M, N, F), and the same of S
output                               (B, N, M, Dv)
gradients of queries                 (B, M, N, D)
gradients of biases                  (B, M, N, F), (B, M, N, S)
gradients of keys, a tile's share    (tiles, B, M, F, D), (tiles, B, M, S, D)
gradient of the value                (B, M, F, S, Dv)
statistics, delta                    (4, B, M, N), (B, M, N)
==================================== ===========================================

In this layout, a module's projections, whose heads are blocks of the channels, are read in place. ``statistics`` are
the maximum and 1 / denominator of the first softmax, then of the second. The maximum is subtracted before the
exponential, and not merged with the logarithm of the denominator, which would be lost in the rounding of large logits.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from anchordetr.rcda.operator import triton_is_interpreted


def _tuned(*options: dict[str, int]) -> Any:
    """Decorate a kernel so that the fastest of some block sizes is found once per size; the first if interpreted."""
    if triton_is_interpreted():
        return triton.heuristics({name: lambda _, size=size: size for name, size in options[0].items()})
    configs = [
        triton.Config(option, num_warps=warps, num_stages=stages)
        for option in options
        for warps, stages in ((4, 2), (4, 3), (8, 2))
    ]
    return triton.autotune(configs, key=["queries", "length_f", "length_s", "DEPTH", "DEPTH_V"])


@triton.jit
def _rows(base, pitch, start, length, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Load (ROWS, CHANNELS) from rows ``pitch`` apart, zeros outside of the tensor."""
    row = start + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (row[:, None] < length) & (channel[None, :] < channels)
    return tl.load(base + row[:, None] * pitch + channel[None, :], mask=inside, other=0.0)


@triton.jit
def _block(base, pitch, start, length, left, ROWS: tl.constexpr, SIZE: tl.constexpr):
    """Pointers to columns ``start`` to ``start + SIZE`` of ROWS rows ``pitch`` apart, and which are inside."""
    row = tl.arange(0, ROWS)
    column = start + tl.arange(0, SIZE)
    inside = (row[:, None] < left) & (column[None, :] < length)
    return base + row[:, None] * pitch + column[None, :], inside


@triton.jit
def _logits(
    query,
    key,
    mask,
    bias,
    start,
    length,
    left,
    scale,
    BLOCK_N: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Logits (BLOCK_N, SIZE) of a tile of keys (SIZE, DEPTH), -inf where nothing may be attended.

    mask: of an image. bias: of the tile's queries, of which ``left`` exist.
    """
    logits = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
    place = start + tl.arange(0, SIZE)
    is_valid = place < length
    if bias is not None:
        pointers, inside = _block(bias, length, start, length, left, BLOCK_N, SIZE)
        logits += tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
    if mask is not None:
        is_valid = is_valid & (tl.load(mask + place, mask=is_valid, other=0) != 0)
    return tl.where(is_valid[None, :], logits, float("-inf"))


@triton.jit
def _statistics(
    query,
    keys,
    mask,
    bias,
    length,
    pitch,
    depth,
    left,
    scale,
    BLOCK_N: tl.constexpr,
    SIZE: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Maximum of the logits and 1 / denominator of their softmax, (BLOCK_N,) each; zeros where all is masked."""
    top = tl.full((BLOCK_N,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(0, length, SIZE):
        key = _rows(keys, pitch, start, length, depth, SIZE, DEPTH)
        logits = _logits(query, key, mask, bias, start, length, left, scale, BLOCK_N, SIZE, PRECISION)
        new_top = tl.maximum(top, tl.max(logits, 1))
        finite = tl.where(new_top == float("-inf"), 0.0, new_top)
        total = total * tl.exp(top - finite) + tl.sum(tl.exp(logits - finite[:, None]), 1)
        top = new_top
    is_any = total > 0.0
    return tl.where(is_any, top, 0.0), tl.where(is_any, 1.0 / tl.where(is_any, total, 1.0), 0.0)


@triton.jit
def _weights(logits, top, norm):
    """Attention weights; a logit above the maximum, which another kernel rounded differently, counts as the maximum."""
    return tl.exp(tl.minimum(logits - top[:, None], 0.0)) * norm[:, None]


@_tuned({"BLOCK_N": 64, "BLOCK_F": 64}, {"BLOCK_N": 128, "BLOCK_F": 64}, {"BLOCK_N": 64, "BLOCK_F": 128})
@triton.jit
def forward_kernel(
    query_f,
    query_s,
    key_f,
    key_s,
    value,
    mask_f,
    mask_s,
    bias_f,
    bias_s,
    output,
    heads,
    queries,
    length_f,
    length_s,
    depth,
    depth_v,
    scale,
    IS_WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPTH_V: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    """Output of a tile of queries of one head."""
    first_query = tl.program_id(0) * BLOCK_N
    left = queries - first_query
    group = tl.program_id(1).to(tl.int64)
    batch = group // heads
    head = group % heads
    pitch = heads * depth
    pitch_v = heads * depth_v
    key_f += batch * length_f * pitch + head * depth
    key_s += batch * length_s * pitch + head * depth
    value += batch * length_f * length_s * pitch_v + head * depth_v
    stride_f = pitch_v if IS_WIDE else length_s * pitch_v
    stride_s = length_f * pitch_v if IS_WIDE else pitch_v
    if mask_f is not None:
        mask_f += batch * length_f
    if mask_s is not None:
        mask_s += batch * length_s
    if bias_f is not None:
        bias_f += (group * queries + first_query) * length_f
    if bias_s is not None:
        bias_s += (group * queries + first_query) * length_s
    own = (batch * queries + first_query) * heads + head
    qf = _rows(query_f + own * depth, pitch, 0, left, depth, BLOCK_N, DEPTH)
    qs = _rows(query_s + own * depth, pitch, 0, left, depth, BLOCK_N, DEPTH)
    top_f, norm_f = _statistics(
        qf, key_f, mask_f, bias_f, length_f, pitch, depth, left, scale, BLOCK_N, BLOCK_F, DEPTH, PRECISION
    )
    top_s, norm_s = _statistics(
        qs, key_s, mask_s, bias_s, length_s, pitch, depth, left, scale, BLOCK_N, BLOCK_S, DEPTH, PRECISION
    )

    sums = tl.zeros((BLOCK_N, DEPTH_V), tl.float32)
    place_s = tl.arange(0, BLOCK_S)
    for start_f in range(0, length_f, BLOCK_F):
        kf = _rows(key_f, pitch, start_f, length_f, depth, BLOCK_F, DEPTH)
        logits_f = _logits(qf, kf, mask_f, bias_f, start_f, length_f, left, scale, BLOCK_N, BLOCK_F, PRECISION)
        a_f = _weights(logits_f, top_f, norm_f).to(value.dtype.element_ty)
        for start_s in range(0, length_s, BLOCK_S):
            ks = _rows(key_s, pitch, start_s, length_s, depth, BLOCK_S, DEPTH)
            logits_s = _logits(qs, ks, mask_s, bias_s, start_s, length_s, left, scale, BLOCK_N, BLOCK_S, PRECISION)
            a_s = _weights(logits_s, top_s, norm_s)
            for row in range(0, min(BLOCK_S, length_s - start_s)):
                row_of_value = value + (start_s + row) * stride_s
                values = _rows(row_of_value, stride_f, start_f, length_f, depth_v, BLOCK_F, DEPTH_V)
                z = tl.dot(a_f, values, input_precision=PRECISION)
                weight = tl.sum(tl.where(place_s[None, :] == row, a_s, 0.0), 1)
                sums += weight[:, None] * z

    pointers, inside = _block(output + own * depth_v, pitch_v, 0, depth_v, left, BLOCK_N, DEPTH_V)
    tl.store(pointers, sums.to(output.dtype.element_ty), mask=inside)


@_tuned({"BLOCK_F": 64}, {"BLOCK_F": 32}, {"BLOCK_F": 128})
@triton.jit
def query_gradient_kernel(
    query_f,
    query_s,
    key_f,
    key_s,
    value,
    mask_f,
    mask_s,
    bias_f,
    bias_s,
    gradient,
    delta,
    dquery_f,
    dquery_s,
    dkey_f,
    dkey_s,
    dbias_f,
    dbias_s,
    statistics,
    heads,
    queries,
    length_f,
    length_s,
    depth,
    depth_v,
    scale,
    IS_WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPTH_V: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    """Gradients of a tile of queries and of its biases, its share of the gradients of the keys, and its statistics.

    delta: the sum of gradient · output over Dv, which is the mean over either softmax of the gradient of its weights.
    """
    tile = tl.program_id(0)
    group = tl.program_id(1).to(tl.int64)
    groups = tl.num_programs(1)
    first_query = tile * BLOCK_N
    left = queries - first_query
    batch = group // heads
    head = group % heads
    pitch = heads * depth
    pitch_v = heads * depth_v
    key_f += batch * length_f * pitch + head * depth
    key_s += batch * length_s * pitch + head * depth
    value += batch * length_f * length_s * pitch_v + head * depth_v
    stride_f = pitch_v if IS_WIDE else length_s * pitch_v
    stride_s = length_f * pitch_v if IS_WIDE else pitch_v
    if mask_f is not None:
        mask_f += batch * length_f
    if mask_s is not None:
        mask_s += batch * length_s
    if bias_f is not None:
        bias_f += (group * queries + first_query) * length_f
        dbias_f += (group * queries + first_query) * length_f
    if bias_s is not None:
        bias_s += (group * queries + first_query) * length_s
        dbias_s += (group * queries + first_query) * length_s
    dkey_f += (tile * groups + group) * length_f * depth
    dkey_s += (tile * groups + group) * length_s * depth
    own = (batch * queries + first_query) * heads + head
    qf = _rows(query_f + own * depth, pitch, 0, left, depth, BLOCK_N, DEPTH)
    qs = _rows(query_s + own * depth, pitch, 0, left, depth, BLOCK_N, DEPTH)
    grad = _rows(gradient + own * depth_v, pitch_v, 0, left, depth_v, BLOCK_N, DEPTH_V).to(tl.float32)
    top_f, norm_f = _statistics(
        qf, key_f, mask_f, bias_f, length_f, pitch, depth, left, scale, BLOCK_N, BLOCK_F, DEPTH, PRECISION
    )
    top_s, norm_s = _statistics(
        qs, key_s, mask_s, bias_s, length_s, pitch, depth, left, scale, BLOCK_N, BLOCK_S, DEPTH, PRECISION
    )
    row_n = tl.arange(0, BLOCK_N)
    of_queries = group * queries + first_query + row_n
    step = groups * queries
    tl.store(statistics + of_queries, top_f, mask=row_n < left)
    tl.store(statistics + step + of_queries, norm_f, mask=row_n < left)
    tl.store(statistics + 2 * step + of_queries, top_s, mask=row_n < left)
    tl.store(statistics + 3 * step + of_queries, norm_s, mask=row_n < left)
    mean = tl.load(delta + of_queries, mask=row_n < left, other=0.0)

    dqf = tl.zeros((BLOCK_N, DEPTH), tl.float32)
    dqs = tl.zeros((BLOCK_N, DEPTH), tl.float32)
    place_s = tl.arange(0, BLOCK_S)
    for start_f in range(0, length_f, BLOCK_F):
        kf = _rows(key_f, pitch, start_f, length_f, depth, BLOCK_F, DEPTH)
        logits_f = _logits(qf, kf, mask_f, bias_f, start_f, length_f, left, scale, BLOCK_N, BLOCK_F, PRECISION)
        a_f = _weights(logits_f, top_f, norm_f)
        da_f = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
        if start_f > 0:
            tl.debug_barrier()  # what the previous part of the first axis stored for the second is read below
        for start_s in range(0, length_s, BLOCK_S):
            ks = _rows(key_s, pitch, start_s, length_s, depth, BLOCK_S, DEPTH)
            logits_s = _logits(qs, ks, mask_s, bias_s, start_s, length_s, left, scale, BLOCK_N, BLOCK_S, PRECISION)
            a_s = _weights(logits_s, top_s, norm_s)
            da_s = tl.zeros((BLOCK_N, BLOCK_S), tl.float32)
            for row in range(0, min(BLOCK_S, length_s - start_s)):
                row_of_value = value + (start_s + row) * stride_s
                values = _rows(row_of_value, stride_f, start_f, length_f, depth_v, BLOCK_F, DEPTH_V)
                z = tl.dot(a_f.to(values.dtype), values, input_precision=PRECISION)
                is_row = place_s[None, :] == row
                da_s = tl.where(is_row, tl.sum(grad * z, 1)[:, None], da_s)
                weight = tl.sum(tl.where(is_row, a_s, 0.0), 1)
                dz = (weight[:, None] * grad).to(values.dtype)
                da_f += tl.dot(dz, tl.trans(values), input_precision=PRECISION)
            # da_s of this part of the first axis; its mean over the softmax is subtracted with the first part
            dlogits_s = a_s * (da_s - tl.where(start_f == 0, mean, 0.0)[:, None])
            dqs += tl.dot(dlogits_s.to(ks.dtype), ks, input_precision=PRECISION)
            dks = tl.dot(tl.trans(dlogits_s.to(qs.dtype)), qs, input_precision=PRECISION) * scale
            pointers, inside = _block(dkey_s + start_s * depth, depth, 0, depth, length_s - start_s, BLOCK_S, DEPTH)
            if start_f > 0:
                dks += tl.load(pointers, mask=inside, other=0.0)
            tl.store(pointers, dks, mask=inside)
            if bias_s is not None:
                pointers, inside = _block(dbias_s, length_s, start_s, length_s, left, BLOCK_N, BLOCK_S)
                if start_f > 0:
                    dlogits_s += tl.load(pointers, mask=inside, other=0.0)
                tl.store(pointers, dlogits_s, mask=inside)
        dlogits_f = a_f * (da_f - mean[:, None])
        dqf += tl.dot(dlogits_f.to(kf.dtype), kf, input_precision=PRECISION)
        dkf = tl.dot(tl.trans(dlogits_f.to(qf.dtype)), qf, input_precision=PRECISION) * scale
        pointers, inside = _block(dkey_f + start_f * depth, depth, 0, depth, length_f - start_f, BLOCK_F, DEPTH)
        tl.store(pointers, dkf, mask=inside)
        if bias_f is not None:
            pointers, inside = _block(dbias_f, length_f, start_f, length_f, left, BLOCK_N, BLOCK_F)
            tl.store(pointers, dlogits_f.to(dbias_f.dtype.element_ty), mask=inside)

    target = (group * queries + first_query) * depth
    pointers, inside = _block(dquery_f + target, depth, 0, depth, left, BLOCK_N, DEPTH)
    tl.store(pointers, (dqf * scale).to(dquery_f.dtype.element_ty), mask=inside)
    pointers, inside = _block(dquery_s + target, depth, 0, depth, left, BLOCK_N, DEPTH)
    tl.store(pointers, (dqs * scale).to(dquery_s.dtype.element_ty), mask=inside)


@_tuned(
    {"BLOCK_N": 64, "BLOCK_F": 64, "ROWS": 4},
    {"BLOCK_N": 64, "BLOCK_F": 32, "ROWS": 4},
    {"BLOCK_N": 64, "BLOCK_F": 64, "ROWS": 2},
)
@triton.jit
def value_gradient_kernel(
    query_f,
    query_s,
    key_f,
    key_s,
    mask_f,
    mask_s,
    bias_f,
    bias_s,
    gradient,
    statistics,
    dvalue,
    heads,
    queries,
    length_f,
    length_s,
    depth,
    depth_v,
    scale,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPTH_V: tl.constexpr,
    BLOCK_S: tl.constexpr,
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
    pitch = heads * depth
    pitch_v = heads * depth_v
    query_f += batch * queries * pitch + head * depth
    query_s += batch * queries * pitch + head * depth
    gradient += batch * queries * pitch_v + head * depth_v
    statistics += group * queries
    step = tl.num_programs(1).to(tl.int64) * queries
    if mask_f is not None:
        mask_f += batch * length_f
    if mask_s is not None:
        mask_s += batch * length_s
    if bias_f is not None:
        bias_f += group * queries * length_f
    if bias_s is not None:
        bias_s += group * queries * length_s
    kf = _rows(key_f + batch * length_f * pitch + head * depth, pitch, start_f, length_f, depth, BLOCK_F, DEPTH)
    # logits as in the kernel of the statistics: a tile of the second axis, of which ROWS places count here
    tile_s = start_s // BLOCK_S * BLOCK_S
    ks = _rows(key_s + batch * length_s * pitch + head * depth, pitch, tile_s, length_s, depth, BLOCK_S, DEPTH)
    in_tile = tile_s + tl.arange(0, BLOCK_S)
    counts = (in_tile >= start_s) & (in_tile < start_s + ROWS)

    sums = tl.zeros((BLOCK_F, ROWS * DEPTH_V), tl.float32)
    for first_query in range(0, queries, BLOCK_N):
        left = queries - first_query
        row_n = first_query + tl.arange(0, BLOCK_N)
        is_query = row_n < queries
        qf = _rows(query_f, pitch, first_query, queries, depth, BLOCK_N, DEPTH)
        qs = _rows(query_s, pitch, first_query, queries, depth, BLOCK_N, DEPTH)
        grad = _rows(gradient, pitch_v, first_query, queries, depth_v, BLOCK_N, DEPTH_V)
        top_f = tl.load(statistics + row_n, mask=is_query, other=0.0)
        norm_f = tl.load(statistics + step + row_n, mask=is_query, other=0.0)
        top_s = tl.load(statistics + 2 * step + row_n, mask=is_query, other=0.0)
        norm_s = tl.load(statistics + 3 * step + row_n, mask=is_query, other=0.0)
        logits_f = _logits(qf, kf, mask_f, bias_f, start_f, length_f, left, scale, BLOCK_N, BLOCK_F, PRECISION)
        a_f = _weights(logits_f, top_f, norm_f).to(grad.dtype)
        logits_s = _logits(qs, ks, mask_s, bias_s, tile_s, length_s, left, scale, BLOCK_N, BLOCK_S, PRECISION)
        a_s = tl.where(counts[None, :], _weights(logits_s, top_s, norm_s), 0.0)
        a_s = tl.sum(tl.reshape(a_s, (BLOCK_N, BLOCK_S // ROWS, ROWS)), 1)
        if bias_f is not None:
            bias_f += BLOCK_N * length_f
        if bias_s is not None:
            bias_s += BLOCK_N * length_s
        dz = a_s[:, :, None] * grad.to(tl.float32)[:, None, :]
        dz = tl.reshape(dz, (BLOCK_N, ROWS * DEPTH_V)).to(grad.dtype)
        sums += tl.dot(tl.trans(a_f), dz, input_precision=PRECISION)

    place_f = start_f + tl.arange(0, BLOCK_F)
    place_s = start_s + tl.arange(0, ROWS)
    channel = tl.arange(0, DEPTH_V)
    inside = (place_f[:, None, None] < length_f) & (place_s[None, :, None] < length_s)
    target = ((group * length_f + place_f[:, None, None]) * length_s + place_s[None, :, None]) * depth_v
    tl.store(
        dvalue + target + channel[None, None, :],
        tl.reshape(sums, (BLOCK_F, ROWS, DEPTH_V)).to(dvalue.dtype.element_ty),
        mask=inside & (channel[None, None, :] < depth_v),
    )

"""``rcda()``: checks its arguments and picks a backend."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from anchordetr.rcda.dense import rcda_summed
from anchordetr.rcda.operator import triton_is_interpreted
from anchordetr.rcda.reference import rcda_reference
from anchordetr.rcda.sdpa import rcda_sdpa
from anchordetr.rcda.tiled import rcda_tiled


def rcda_triton(*arguments: Any) -> Tensor:
    """Call the Triton backend, loading it now.

    Raises:
        ValueError: Triton is not installed, or the tensors are on no GPU.
    """
    value: Tensor = arguments[4]
    if not (value.is_cuda or triton_is_interpreted()):
        raise ValueError(f"RCDA backend 'triton' needs tensors on a GPU; got {value.device}. Use backend='auto'.")
    try:
        from anchordetr.rcda import triton_kernels
    except ImportError as error:
        raise ValueError("RCDA backend 'triton' needs Triton; install it, or use backend='auto'.") from error
    return triton_kernels.rcda_triton(*arguments)


WITH_DROPOUT: dict[str, Callable[..., Tensor]] = {
    "reference": rcda_reference,
    "summed": rcda_summed,
    "sdpa": rcda_sdpa,
}
WITHOUT_DROPOUT: dict[str, Callable[..., Tensor]] = {"tiled": rcda_tiled, "triton": rcda_triton}
BACKENDS = {**WITH_DROPOUT, **WITHOUT_DROPOUT}
_SMALL_MAP = 256
_TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_TRITON_DEPTH = 128


def rcda(
    q_x: Tensor,
    q_y: Tensor,
    k_x: Tensor,
    k_y: Tensor,
    value: Tensor,
    mask_x: Tensor | None = None,
    mask_y: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    """Row-column decoupled attention (Anchor DETR, arXiv 2109.07107, section 3.4).

    Each query attends over the W columns, then over the H rows of the value map. A softmax over a sum separates,
    so this equals dense attention over the H·W locations with logits ``q_x·k_x[w] + q_y·k_y[h]``.

    Args:
        q_x, q_y: (B, M, N, D) queries along the width and along the height.
        k_x: (B, M, W, D) one key per column. k_y: (B, M, H, D) one key per row.
        value: (B, M, H, W, Dv).
        mask_x: (B, W), mask_y: (B, H): boolean, True = may be attended. Where an image has no True, the answer is 0.
        scale: factor of the logits; ``D ** -0.5`` if not given.
        dropout_p: probability of dropping a weight; only ``reference``, ``summed`` and ``sdpa`` can.
        backend: ``"auto"`` (see :func:`explain`) or a name from the table in ``anchordetr/rcda/README.md``.

    Returns:
        (B, M, N, Dv).

    Raises:
        ValueError: shapes or dtypes disagree, or the backend is unknown or cannot do what is asked.
    """
    _check(q_x, q_y, k_x, k_y, value, mask_x, mask_y)
    name = _choose(q_x, value, dropout_p)[0] if backend == "auto" else backend
    scale = q_x.shape[-1] ** -0.5 if scale is None else scale
    if name in WITH_DROPOUT:
        return WITH_DROPOUT[name](q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale, dropout_p)
    if name not in BACKENDS:
        close = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"Unknown RCDA backend '{name}'; known: auto, {', '.join(BACKENDS)}.{hint}")
    if dropout_p > 0.0:
        raise ValueError(
            f"RCDA backend '{name}' has no dropout; use backend='auto' or one of {', '.join(WITH_DROPOUT)}."
        )
    return WITHOUT_DROPOUT[name](q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale)


def explain(q_x: Tensor, value: Tensor, dropout_p: float = 0.0) -> str:
    """Say which backend ``rcda(..., backend="auto")`` takes for these queries and this value, and why.

    Args:
        q_x, value, dropout_p: as for :func:`rcda`.
    """
    name, reason = _choose(q_x, value, dropout_p)
    return f"{name}: {reason}"


def _choose(q_x: Tensor, value: Tensor, dropout_p: float) -> tuple[str, str]:
    """Choose by what is known before any value is: device, dtype, sizes, dropout."""
    height, width, value_depth = value.shape[2:]
    depth = q_x.shape[-1]
    if dropout_p > 0.0:
        return "reference", "dropout acts on the weights of rows and columns"
    if height * width <= _SMALL_MAP:
        return "summed", f"a map of {height}x{width} is small, one softmax over its locations is fastest"
    if value.is_cuda and value.dtype in _TRITON_DTYPES and _has_triton() and max(depth, value_depth) <= _TRITON_DEPTH:
        return "triton", f"a map of {height}x{width} on {value.device.type}; one fused kernel"
    return "tiled", f"a map of {height}x{width} on {value.device.type}; Z is never held"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _check(
    q_x: Tensor, q_y: Tensor, k_x: Tensor, k_y: Tensor, value: Tensor, mask_x: Tensor | None, mask_y: Tensor | None
) -> None:
    if value.ndim != 5 or q_x.ndim != 4:
        raise ValueError(
            "rcda expects q_x (B, M, N, D) and value (B, M, H, W, Dv); "
            f"got {tuple(q_x.shape)} and {tuple(value.shape)}."
        )
    batch, heads, height, width, _ = value.shape
    queries, depth = q_x.shape[2:]
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "q_x": (q_x, (batch, heads, queries, depth)),
        "q_y": (q_y, (batch, heads, queries, depth)),
        "k_x": (k_x, (batch, heads, width, depth)),
        "k_y": (k_y, (batch, heads, height, depth)),
        "mask_x": (mask_x, (batch, width)),
        "mask_y": (mask_y, (batch, height)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(
                f"rcda expects {name} of shape {shape} beside the other arguments; got {tuple(tensor.shape)}."
            )
    dtypes = {str(tensor.dtype) for tensor in (q_x, q_y, k_x, k_y, value)}
    if len(dtypes) > 1 and not torch.is_autocast_enabled(value.device.type):
        raise ValueError(f"rcda expects queries, keys and value of one dtype; got {', '.join(sorted(dtypes))}.")

"""``rcda()``: checks its arguments and picks a backend."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from anchordetr.rcda.dense import rcda_dense
from anchordetr.rcda.operands import Axis, Operands
from anchordetr.rcda.operator import triton_is_interpreted
from anchordetr.rcda.reference import rcda_reference
from anchordetr.rcda.sdpa import rcda_sdpa
from anchordetr.rcda.tiled import rcda_tiled


def rcda_triton(operands: Operands) -> Tensor:
    """Run the Triton backend, which is imported on first use.

    Raises:
        ValueError: Triton is not installed, or the tensors are not on a GPU.
    """
    device = operands.value.device
    if not (device.type == "cuda" or triton_is_interpreted()):
        raise ValueError(f"RCDA backend 'triton' needs tensors on a GPU; got {device}. Use backend='auto'.")
    try:
        from anchordetr.rcda import triton
    except ImportError as error:
        raise ValueError("RCDA backend 'triton' needs Triton; install it, or use backend='auto'.") from error
    return triton.rcda_triton(operands)


WITH_DROPOUT: dict[str, Callable[[Operands, float], Tensor]] = {
    "reference": rcda_reference,
    "dense": rcda_dense,
    "sdpa": rcda_sdpa,
}
WITHOUT_DROPOUT: dict[str, Callable[[Operands], Tensor]] = {"tiled": rcda_tiled, "triton": rcda_triton}
BACKENDS: dict[str, Callable[..., Tensor]] = {**WITH_DROPOUT, **WITHOUT_DROPOUT}
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
    bias_x: Tensor | None = None,
    bias_y: Tensor | None = None,
) -> Tensor:
    """Row-column decoupled attention (Anchor DETR, arXiv 2109.07107, section 3.4).

    Each query attends over the W columns, then over the H rows of the value map. A softmax over a sum separates,
    so this equals dense attention over the H·W locations with logits
    ``q_x·k_x[w]·scale + bias_x[w] + q_y·k_y[h]·scale + bias_y[h]``.

    Args:
        q_x, q_y: (B, M, N, D) queries along the width and along the height.
        k_x: (B, M, W, D) one key per column. k_y: (B, M, H, D) one key per row.
        value: (B, M, H, W, Dv).
        mask_x: (B, W), mask_y: (B, H): boolean, True = may be attended. Where an image has no True, the output is 0.
        scale: factor of ``q·k``; ``D ** -0.5`` if not given.
        dropout_p: probability of dropping a weight; only ``reference``, ``dense`` and ``sdpa`` can.
        backend: ``"auto"`` (see :func:`explain`) or a name from the table in ``anchordetr/rcda/README.md``.
        bias_x: (B, M, N, W), bias_y: (B, M, N, H): added to the logits after the scale, where B and M may be 1.

    Returns:
        (B, M, N, Dv); zeros if the map has no location.

    Raises:
        ValueError: shapes or dtypes disagree, tensors are not floating-point, or the backend is unknown or unusable for
                these arguments.
    """
    x, y = Axis(q_x, k_x, mask_x, bias_x), Axis(q_y, k_y, mask_y, bias_y)
    _check(Operands(x, y, value, 1.0))
    scale = max(q_x.shape[-1], 1) ** -0.5 if scale is None else scale
    operands = Operands(x, y, value, scale).with_full_biases()
    name = _choose(q_x, value, dropout_p)[0] if backend == "auto" else backend
    device = value.device.type
    if not torch.is_autocast_enabled(device):
        return _run(name, operands, dropout_p)
    with torch.autocast(device, enabled=False):
        return _run(name, operands.to(torch.get_autocast_dtype(device)), dropout_p)


def explain(
    q_x: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    bias_x: Tensor | None = None,
    bias_y: Tensor | None = None,
) -> str:
    """Return which backend ``rcda(..., backend="auto")`` takes for these arguments, and why, as one line.

    Every backend adds biases, so they do not change the choice, but the reason names them.

    Args:
        q_x, value, dropout_p, bias_x, bias_y: as for :func:`rcda`.
    """
    name, reason = _choose(q_x, value, dropout_p)
    biased = [axis for axis, bias in (("x", bias_x), ("y", bias_y)) if bias is not None]
    return f"{name}: {reason}" + (f"; it adds the biases of {' and '.join(biased)}" if biased else "")


def _run(name: str, operands: Operands, dropout_p: float) -> Tensor:
    if name not in BACKENDS:
        close = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"Unknown RCDA backend '{name}'; known: auto, {', '.join(BACKENDS)}.{hint}")
    if dropout_p > 0.0 and name not in WITH_DROPOUT:
        raise ValueError(
            f"RCDA backend '{name}' has no dropout; use backend='auto' or one of {', '.join(WITH_DROPOUT)}."
        )
    if operands.is_empty():
        return rcda_reference(operands.within_range(), dropout_p)
    output = _attend(name, operands, dropout_p)
    return output if _is_finite(output) else _attend(name, operands.within_range(), dropout_p)


def _attend(name: str, operands: Operands, dropout_p: float) -> Tensor:
    if name in WITH_DROPOUT:
        return WITH_DROPOUT[name](operands, dropout_p)
    return WITHOUT_DROPOUT[name](operands)


def _is_finite(output: Tensor) -> bool:
    """Whether an output has no NaN and no infinity, where looking costs little: not on a GPU, nor when compiled."""
    if output.is_cuda or torch.compiler.is_compiling():
        return True
    return bool(output.detach().sum(dtype=torch.promote_types(output.dtype, torch.float32)).isfinite())


def _choose(q_x: Tensor, value: Tensor, dropout_p: float) -> tuple[str, str]:
    """Return the backend and the reason for it, from device, dtype, sizes and dropout alone."""
    height, width, value_depth = value.shape[2:]
    depth = q_x.shape[-1]
    if dropout_p > 0.0:
        return "reference", "dropout acts on the weights of rows and columns"
    if height * width <= _SMALL_MAP:
        return "dense", f"a map of {height}x{width} is small, one softmax over its locations is fastest"
    if value.is_cuda and value.dtype in _TRITON_DTYPES and _has_triton() and max(depth, value_depth) <= _TRITON_DEPTH:
        return "triton", f"a map of {height}x{width} on {value.device.type}; one fused kernel"
    return "tiled", f"a map of {height}x{width} on {value.device.type}; Z is never held"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _check(operands: Operands) -> None:
    x, y, value, _ = operands
    if value.ndim != 5 or x.query.ndim != 4:
        raise ValueError(
            "rcda expects q_x (B, M, N, D) and value (B, M, H, W, Dv); "
            f"got {tuple(x.query.shape)} and {tuple(value.shape)}."
        )
    for name, axis, length in (("x", x, value.shape[3]), ("y", y, value.shape[2])):
        _check_axis(name, axis, (*value.shape[:2], *x.query.shape[2:], length))
    tensors = (x.query, y.query, x.key, y.key, value, x.bias, y.bias)
    dtypes = {str(tensor.dtype) for tensor in tensors if tensor is not None}
    if len(dtypes) > 1 and not torch.is_autocast_enabled(value.device.type):
        raise ValueError(f"rcda expects queries, keys, value and biases of one dtype; got {', '.join(sorted(dtypes))}.")
    if not value.is_floating_point():
        raise ValueError(f"rcda expects floating-point tensors; got {value.dtype}. Convert them, as with .float().")


def _check_axis(name: str, axis: Axis, sizes: tuple[int, int, int, int, int]) -> None:
    """Compare the shapes of one axis with B, M, N, D and S."""
    batch, heads, queries, depth, length = sizes
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "q": (axis.query, (batch, heads, queries, depth)),
        "k": (axis.key, (batch, heads, length, depth)),
        "mask": (axis.mask, (batch, length)),
    }
    for kind, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(
                f"rcda expects {kind}_{name} of shape {shape} to match the other arguments; got {tuple(tensor.shape)}."
            )
    if axis.mask is not None and axis.mask.dtype != torch.bool:
        raise ValueError(
            f"rcda expects mask_{name} to be boolean, True = may be attended; got {axis.mask.dtype}. "
            f"Pass mask_{name}.bool(), or a tensor as bias_{name} to add it to the logits."
        )
    if axis.bias is not None and not _expands_to(axis.bias, (batch, heads, queries, length)):
        raise ValueError(
            f"rcda expects bias_{name} of shape {(batch, heads, queries, length)} to match the other arguments, "
            f"where the first two sizes may be 1; got {tuple(axis.bias.shape)}."
        )


def _expands_to(bias: Tensor, shape: tuple[int, int, int, int]) -> bool:
    """Whether a bias has this shape, or 1 in place of B or M."""
    return (
        bias.ndim == 4
        and bias.shape[0] in (1, shape[0])
        and bias.shape[1] in (1, shape[1])
        and tuple(bias.shape[2:]) == shape[2:]
    )

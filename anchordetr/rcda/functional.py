"""``rcda()``: checks its arguments and picks a backend."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import Tensor

from anchordetr.rcda.reference import rcda_reference
from anchordetr.rcda.summed import rcda_summed

BACKENDS: dict[str, Callable[..., Tensor]] = {"reference": rcda_reference, "summed": rcda_summed}
_SMALL_MAP_CELLS = 400


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
    so this equals dense attention over the H·W cells with logits ``q_x·k_x[w] + q_y·k_y[h]``.

    Args:
        q_x, q_y: (B, M, N, D) queries along the width and along the height.
        k_x: (B, M, W, D) one key per column. k_y: (B, M, H, D) one key per row.
        value: (B, M, H, W, Dv).
        mask_x: (B, W), mask_y: (B, H): boolean, True = may be attended. Each needs one True per picture.
        scale: factor of the logits; ``D ** -0.5`` if not given.
        dropout_p: probability of dropping a weight of either attention.
        backend: ``"reference"`` contracts one axis after the other; ``"summed"`` takes one softmax over the cells,
            which is faster on small maps; ``"auto"`` chooses by the number of cells.

    Returns:
        (B, M, N, Dv).

    Raises:
        ValueError: shapes disagree, or the backend is unknown.
    """
    _check_shapes(q_x, q_y, k_x, k_y, value, mask_x, mask_y)
    if backend != "auto" and backend not in BACKENDS:
        close = difflib.get_close_matches(backend, BACKENDS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"Unknown RCDA backend '{backend}'; known: auto, {', '.join(BACKENDS)}.{hint}")
    if backend == "auto":
        is_small = value.shape[2] * value.shape[3] <= _SMALL_MAP_CELLS
        backend = "summed" if is_small and dropout_p == 0.0 else "reference"
    scale = q_x.shape[-1] ** -0.5 if scale is None else scale
    return BACKENDS[backend](q_x, q_y, k_x, k_y, value, mask_x, mask_y, scale, dropout_p)


def _check_shapes(
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

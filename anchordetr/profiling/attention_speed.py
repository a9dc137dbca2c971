"""Speed of row-column decoupled attention compared with dense attention: the operator and whole layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anchordetr.profiling.timing import Timing, compare, with_gradient, without_gradient
from anchordetr.rcda import RowColumnAttention, rcda

_BASELINE = "sdpa"
_Call = Callable[[], Tensor]


@dataclass(frozen=True)
class AttentionCase:
    """Self-attention over ``batch`` maps of ``height`` × ``width`` locations, with ``heads`` of ``depth`` channels."""

    height: int
    width: int
    heads: int = 8
    depth: int = 32
    batch: int = 1
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class _Candidate:
    """A call, and the tensors whose gradients its backward pass computes."""

    run: _Call
    inputs: list[Tensor]


def benchmark_rcda(
    case: AttentionCase,
    device: torch.device,
    backends: Sequence[str] = ("reference", "tiled"),
    rounds: int = 15,
) -> list[Timing]:
    """Compare RCDA with dense attention in self-attention over a map: the operator and the whole layer.

    The baseline ``sdpa`` is ``scaled_dot_product_attention`` over the same locations with queries and keys of
    ``case.depth`` channels, as a standard layer of the same width would call it.

    Args:
        backends: of :func:`~anchordetr.rcda.rcda`.
        rounds: how often each candidate runs.
    """
    cases = {"operator": _operators(case, device, backends), "layer": _layers(case, device)}
    timings = []
    for part, candidates in cases.items():
        forward = {name: without_gradient(candidate.run) for name, candidate in candidates.items()}
        both = {name: with_gradient(candidate.run, candidate.inputs) for name, candidate in candidates.items()}
        timings += compare(f"{part} forward", forward, _BASELINE, device, rounds)
        timings += compare(f"{part} forward + backward", both, _BASELINE, device, rounds)
    return timings


def _operators(case: AttentionCase, device: torch.device, backends: Sequence[str]) -> dict[str, _Candidate]:
    def random(*shape: int) -> Tensor:
        values = torch.randn(case.batch, case.heads, *shape, device=device)
        return values.to(case.dtype).requires_grad_()

    locations, depth = case.height * case.width, case.depth
    query, key, dense_value, q_x, q_y = (random(locations, depth) for _ in range(5))
    k_x, k_y, value = random(case.width, depth), random(case.height, depth), random(case.height, case.width, depth)

    def with_backend(backend: str) -> _Candidate:
        return _Candidate(
            lambda: rcda(q_x, q_y, k_x, k_y, value, backend=backend),
            [q_x, q_y, k_x, k_y, value],
        )

    dense = _Candidate(lambda: F.scaled_dot_product_attention(query, key, dense_value), [query, key, dense_value])
    return {_BASELINE: dense} | {f"rcda {backend}": with_backend(backend) for backend in backends}


def _layers(case: AttentionCase, device: torch.device) -> dict[str, _Candidate]:
    channels = case.heads * case.depth
    features = torch.randn(case.batch, case.height, case.width, channels, device=device)
    features = features.to(case.dtype).requires_grad_()
    fused = _FusedAttention(channels, case.heads)
    standard = nn.MultiheadAttention(channels, case.heads, batch_first=True)
    decoupled = RowColumnAttention(channels, case.heads)
    for module in (fused, standard, decoupled):
        module.to(device, case.dtype).eval()
    locations = features.flatten(1, 2)

    def multi_head() -> Tensor:
        output: Tensor = standard(locations, locations, locations, need_weights=False)[0]
        return output

    def candidate(run: _Call, module: nn.Module) -> _Candidate:
        return _Candidate(run, [features, *module.parameters()])

    return {
        _BASELINE: candidate(lambda: fused(locations), fused),
        "nn.MultiheadAttention": candidate(multi_head, standard),
        "RowColumnAttention": candidate(lambda: decoupled(features), decoupled),
    }


class _FusedAttention(nn.Module):
    """Standard self-attention, written efficiently: one product for queries, keys and values, then sdpa."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(channels, 3 * channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        query, key, value = self.in_proj(features).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(-2))
        return output

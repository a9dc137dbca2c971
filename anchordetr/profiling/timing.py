"""Speed as ratios: candidates run in turn in one process, in alternating order; medians of many rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from anchordetr.profiling.peak_memory import peak_bytes


@dataclass(frozen=True)
class Timing:
    """Time and memory of one candidate in one case.

    Attributes:
        case: what was measured, for example ``operator forward``.
        candidate: what was run.
        seconds: median of the rounds.
        ratio: the baseline's median in this case divided by ``seconds``; above 1 means faster than the baseline.
        peak_bytes: peak memory beyond the inputs.
    """

    case: str
    candidate: str
    seconds: float
    ratio: float
    peak_bytes: int


def compare(
    case: str, candidates: Mapping[str, Callable[[], object]], baseline: str, device: torch.device, rounds: int
) -> list[Timing]:
    """Time the candidates of a case in turn, measure their peak memory, and compare them with the baseline.

    Args:
        case: its name, for the results.
        candidates: calls by name, the baseline among them.
        baseline: name of the candidate that the others are compared with.
        rounds: how often each candidate runs.
    """
    medians = {name: median(seconds) for name, seconds in time_in_turn(candidates, device, rounds).items()}
    return [
        Timing(case, name, seconds, medians[baseline] / seconds, peak_bytes(candidates[name], device))
        for name, seconds in medians.items()
    ]


def time_in_turn(
    candidates: Mapping[str, Callable[[], object]], device: torch.device, rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of each round by candidate; a round runs all of them, every second round in reverse order.

    Each candidate runs twice before the first round, so that compilation and tuning are not counted.
    """
    names = list(candidates)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names * 2:
        _timed(candidates[name], device)
    for index in range(rounds):
        for name in names if index % 2 == 0 else reversed(names):
            seconds[name].append(_timed(candidates[name], device))
    return seconds


def _timed(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def without_gradient(run: Callable[[], Tensor]) -> Callable[[], object]:
    """Return a function that calls ``run`` under ``torch.no_grad``."""

    def call() -> Tensor:
        with torch.no_grad():
            return run()

    return call


def with_gradient(run: Callable[[], Tensor], inputs: list[Tensor]) -> Callable[[], object]:
    """Return a function that calls ``run`` and computes the gradients of ``inputs``."""
    cotangent = torch.randn_like(run())

    def call() -> object:
        return torch.autograd.grad(run(), inputs, cotangent)

    return call

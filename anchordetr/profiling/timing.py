"""Speed as ratios: rivals measured in turn in one process, forwards and backwards, medians of many rounds."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anchordetr.profiling.peak_memory import peak_bytes
from anchordetr.rcda import RowColumnAttention, rcda

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Timing:
    """One rival in one contest.

    Attributes:
        contest: what was measured, for example ``operator forward``. rival: who did it.
        seconds: median of the rounds.
        ratio: the yardstick's median in this contest over ``seconds``; above 1 is faster than the yardstick.
        peak_bytes: most memory held at once beyond the inputs.
    """

    contest: str
    rival: str
    seconds: float
    ratio: float
    peak_bytes: int


def time_in_turn(
    rivals: Mapping[str, Callable[[], object]], device: torch.device, rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of every round of every rival; each round runs all, every second one in reverse order.

    Each rival runs twice before the first round, so that compiling and tuning are not counted.
    """
    names = list(rivals)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names * 2:
        _timed(rivals[name], device)
    for index in range(rounds):
        for name in names if index % 2 == 0 else reversed(names):
            seconds[name].append(_timed(rivals[name], device))
    return seconds


def _timed(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def benchmark_rcda(
    height: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
    heads: int = 8,
    depth: int = 32,
    batch: int = 1,
    rounds: int = 15,
    backends: tuple[str, ...] = ("reference", "tiled"),
) -> list[Timing]:
    """Compare RCDA with dense attention in self-attention over a map: the operator and the whole layer.

    The rival ``sdpa`` is ``scaled_dot_product_attention`` over the same locations with queries and keys of ``depth``
    channels, as a standard layer of the same width would call it.

    Args:
        height, width: locations of the map.
        heads, depth: M and D; the layer has M · D channels.
        rounds: how often each rival runs.
        backends: of :func:`rcda`.
    """
    rivals = _operators(height, width, device, dtype, heads, depth, batch, backends)
    layers = _layers(height, width, device, dtype, heads, depth, batch)
    contests = {
        "operator forward": {name: without_gradient(run) for name, (run, _) in rivals.items()},
        "operator forward + backward": {name: with_gradient(*rival) for name, rival in rivals.items()},
        "layer forward": {name: without_gradient(run) for name, (run, _) in layers.items()},
        "layer forward + backward": {name: with_gradient(*rival) for name, rival in layers.items()},
    }
    return [timing for contest, runs in contests.items() for timing in hold(contest, runs, "sdpa", device, rounds)]


def hold(
    contest: str, runs: Mapping[str, Callable[[], object]], yardstick: str, device: torch.device, rounds: int
) -> list[Timing]:
    """Time rivals in turn, measure their peak memory, and compare them with the one that is the yardstick."""
    medians = {name: median(seconds) for name, seconds in time_in_turn(runs, device, rounds).items()}
    return [
        Timing(contest, name, seconds, medians[yardstick] / seconds, peak_bytes(runs[name], device))
        for name, seconds in medians.items()
    ]


_Rival = tuple[Callable[[], Tensor], list[Tensor]]


def _operators(
    height: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
    heads: int,
    depth: int,
    batch: int,
    backends: tuple[str, ...],
) -> dict[str, _Rival]:
    """Return calls and their inputs."""

    def random(*shape: int) -> Tensor:
        return torch.randn(batch, heads, *shape, device=device).to(dtype).requires_grad_()

    locations = height * width
    query, key, cell_value = (random(locations, depth) for _ in range(3))
    q_x, q_y, value = random(locations, depth), random(locations, depth), random(height, width, depth)
    k_x, k_y = random(width, depth), random(height, depth)

    def call(backend: str) -> Callable[[], Tensor]:
        return lambda: rcda(q_x, q_y, k_x, k_y, value, backend=backend)

    rivals: dict[str, _Rival] = {
        "sdpa": (lambda: F.scaled_dot_product_attention(query, key, cell_value), [query, key, cell_value])
    }
    return rivals | {f"rcda {backend}": (call(backend), [q_x, q_y, k_x, k_y, value]) for backend in backends}


def _layers(
    height: int, width: int, device: torch.device, dtype: torch.dtype, heads: int, depth: int, batch: int
) -> dict[str, _Rival]:
    channels = heads * depth
    features = torch.randn(batch, height, width, channels, device=device).to(dtype).requires_grad_()
    fused = _FusedAttention(channels, heads).to(device, dtype)
    standard = nn.MultiheadAttention(channels, heads, batch_first=True).to(device, dtype)
    decoupled = RowColumnAttention(channels, heads).to(device, dtype)
    for module in (fused, standard, decoupled):
        module.eval()
    locations = features.flatten(1, 2)

    def multi_head() -> Tensor:
        output: Tensor = standard(locations, locations, locations, need_weights=False)[0]
        return output

    return {
        "sdpa": (lambda: fused(locations), [features, *fused.parameters()]),
        "nn.MultiheadAttention": (multi_head, [features, *standard.parameters()]),
        "RowColumnAttention": (lambda: decoupled(features), [features, *decoupled.parameters()]),
    }


class _FusedAttention(nn.Module):
    """Standard self-attention at its best: one product for queries, keys and values, then sdpa."""

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


def without_gradient(run: Callable[[], Tensor]) -> Callable[[], object]:
    """Return a call of ``run`` that records nothing for a backward pass."""

    def call() -> Tensor:
        with torch.no_grad():
            return run()

    return call


def with_gradient(run: Callable[[], Tensor], inputs: list[Tensor]) -> Callable[[], object]:
    """Return a call of ``run`` and of its backward pass to ``inputs``."""
    cotangent = torch.randn_like(run())

    def call() -> object:
        return torch.autograd.grad(run(), inputs, cotangent)

    return call


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what a measurement depends on: processor, threads, versions and the commit of a checkout."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "anchordetr": version("anchordetr"),
        "commit": _commit(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the checkout's commit, with a plus where files were changed; None outside of a checkout."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()

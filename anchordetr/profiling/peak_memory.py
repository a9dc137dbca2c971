"""Peak memory of a call or of its stages, as torch's allocator reports it, on the CPU and on CUDA."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.autograd.profiler import record_function

_MARK = "anchordetr stage: "
Enter = Callable[[str], None]


class StageMemory(NamedTuple):
    """Memory of one stage, in bytes beyond what was held before the first stage.

    Attributes:
        peak: the most that was held at once during the stage. held: the amount held at its end.
    """

    peak: int
    held: int


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Return the most memory that ``run`` holds at once beyond what was held before."""

    def only_stage(enter: Enter) -> None:
        enter("")
        run()

    return stage_memory(only_stage, device)[""].peak


def stage_memory(run: Callable[[Enter], object], device: torch.device) -> dict[str, StageMemory]:
    """Measure the stages of a call.

    Args:
        run: takes a function and calls it with the name of each stage where that stage begins, the first one at once.
    """
    return _on_cuda(run, device) if device.type == "cuda" else _on_cpu(run)


def _on_cuda(run: Callable[[Enter], object], device: torch.device) -> dict[str, StageMemory]:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    stages: dict[str, StageMemory] = {}
    current: str | None = None

    def close() -> None:
        if current is None:
            return
        torch.cuda.synchronize(device)
        peak, held = torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
        stages[current] = StageMemory(peak - before, held - before)
        torch.cuda.reset_peak_memory_stats(device)

    def enter(name: str) -> None:
        nonlocal current
        close()
        current = name

    run(enter)
    close()
    return stages


def _on_cpu(run: Callable[[Enter], object]) -> dict[str, StageMemory]:
    def enter(name: str) -> None:
        with record_function(_MARK + name):
            pass

    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        run(enter)
    events = profile.kineto_results.events()
    relevant = [event for event in events if event.name() == "[memory]" or event.name().startswith(_MARK)]
    stages: dict[str, StageMemory] = {}
    current, held = "", 0
    for event in sorted(relevant, key=lambda event: event.start_ns()):
        if event.name() != "[memory]":
            current = event.name().removeprefix(_MARK)
            stages[current] = StageMemory(held, held)
        elif stages:
            held += event.nbytes()
            stages[current] = StageMemory(max(stages[current].peak, held), held)
    return stages


def free_memory(device: torch.device) -> int:
    """Return the number of bytes that can be allocated on a device; on the CPU half of the free memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return 4 << 30
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2

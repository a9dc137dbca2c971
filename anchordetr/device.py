"""Which device and which number format a run uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from anchordetr.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DTYPES = {**PRECISIONS, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Types of computation by their short names, and by torch's own."""


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device; ``auto`` is the first GPU, under ``torchrun`` this process's, or the CPU without one.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        gpu = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device(f"cuda:{gpu}" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"The device '{name}' cannot be used here; try cpu, cuda or cuda:0.") from error


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context in which the network runs in ``fp32``, ``bf16`` or ``fp16``."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def peak_memory() -> int:
    """Return the most bytes that were held so far: on the present GPU by tensors, or without one by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def repeatable(enabled: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms only, if ``enabled``; without it a CPU repeats itself, a GPU almost.

    An operation without a deterministic algorithm raises and says so.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(enabled or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)

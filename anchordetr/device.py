"""Device, number format and determinism of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from anchordetr.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DTYPES = {**PRECISIONS, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number formats by their short names, and by torch's names."""


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device; ``auto`` is the first GPU, under ``torchrun`` that of this process, or else the CPU.

    Raises:
        UsageError: this machine has no such device.
    """
    if name == "auto":
        gpu = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device(f"cuda:{gpu}" if torch.cuda.is_available() else "cpu")
    try:
        trial = torch.ones(1, device=name)
        trial.add(1.0).item()  # refuses devices without values, such as "meta"
        return trial.device
    except Exception as error:  # torch raises errors of many types
        raise UsageError(f"The device '{name}' cannot be used here; try cpu, cuda or cuda:0.") from error


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context in which the network runs in ``fp32``, ``bf16`` or ``fp16``."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def peak_memory() -> int:
    """Return the peak memory so far, in bytes: of tensors on the current GPU, or without one of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def repeatable(enabled: bool) -> Iterator[None]:
    """Restrict torch to deterministic algorithms, if ``enabled``; runs on a CPU are repeatable without it.

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

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
Device = str | int | torch.device
"""What names a device; see :func:`choose_device`."""


def choose_device(name: Device = "auto") -> torch.device:
    """Return a device of this machine.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` and the like; ``gpu`` is the first GPU of any kind, and a number
            (``0`` or ``"0"``) the CUDA GPU of this index. ``auto`` is the first CUDA GPU, under ``torchrun`` that of
            this process, or else the CPU; MPS is used where it is named, since its results are not tested.

    Raises:
        UsageError: this machine has no such device; the message lists those that it has.
    """
    full_name = _full_name(name)
    try:
        trial = torch.ones(1, device=full_name)
        trial.add(1.0).item()  # refuses devices without values, such as "meta"
        return trial.device
    except Exception as error:  # torch raises errors of many types
        raise UsageError(f"The device {name!r} cannot be used; this machine has {', '.join(_devices())}.") from error


def _full_name(name: Device) -> str:
    """Return the name of a device as torch knows it."""
    text = str(name).strip().lower() if isinstance(name, str) else str(name)
    if text == "auto":
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    if text == "gpu":
        return "mps" if torch.backends.mps.is_available() else "cuda:0"
    return f"cuda:{text}" if text.isdecimal() else text


def _devices() -> list[str]:
    """Return the names of the devices that this machine has."""
    gpus = [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


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

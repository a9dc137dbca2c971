"""Device, number format and determinism of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


@contextmanager
def independent_initialization(seed: int) -> Iterator[None]:
    """Make new tensors on the CPU, and draw their random values from a generator of their own.

    The caller's default device, inference mode and random state neither matter nor change, in this thread or another.
    """
    with torch.inference_mode(False), torch.device("cpu"), _Draws(torch.Generator().manual_seed(seed)):
        yield


class _Draws(TorchDispatchMode):
    """Gives a generator to the random operators of the current thread that were given none."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None:
            if "generator" not in {argument.name for argument in func._schema.arguments}:
                name = func._overloadname.replace("default", "")
                func = getattr(func.overloadpacket, f"{name}_generator".lstrip("_"))  # as of torch.rand
            kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)


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

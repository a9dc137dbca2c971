"""Which device and which number format a run uses."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from anchordetr.errors import UsageError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device; ``auto`` is the first GPU, or the CPU where there is none.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"The device '{name}' cannot be used here; try cpu, cuda or cuda:0.") from error


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context in which the network runs in ``fp32``, ``bf16`` or ``fp16``."""
    return torch.autocast(device.type, dtype=_DTYPES[precision], enabled=precision != "fp32")

"""Random numbers that depend on given numbers alone, and leave the caller's as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

_CPU = torch.device("cpu")


def seed_of(*numbers: int) -> int:
    """Return a seed of 32 bits that depends on all of the numbers, which are not negative."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch, and restore their states on leaving.

    Args:
        seed: not negative, of at most 64 bits.
        device: a GPU whose generator is seeded too, or the CPU.
    """
    gpus = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(gpus):
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


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

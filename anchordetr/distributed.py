"""The process group of a run: one process alone, or several started by ``torchrun`` (torch.distributed)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_TIMEOUT = timedelta(minutes=15)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train or evaluate together, as seen by one of them.

    Attributes:
        rank: index of this process. size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the network whose gradients are averaged over the processes."""
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=True,  # of the position encoders, where an attention does not read all encodings
        )

    def without_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which each process accumulates its own gradients."""
        return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, on each of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, value: int, device: torch.device) -> int:
        """Return the largest value of any process, on each of them."""
        if self.size == 1:
            return value
        values = torch.tensor(value, device=device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, on each of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """Return the main process's value on each process."""
        return self.gather(value)[0]


ALONE = ProcessGroup()


def is_main_process() -> bool:
    """Return whether this is the main process, inside and outside of :func:`process_group`."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Enter the process group of the processes that ``torchrun`` started; without it, the one of this process alone.

    A process that waits longer than 15 minutes for another one ends with an error.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield ProcessGroup(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()

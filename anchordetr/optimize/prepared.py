"""The copy of a network that predictions run on, shared by all threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from anchordetr.errors import UsageError
from anchordetr.optimize.budget import Budget, apply_budget
from anchordetr.optimize.fuse import fuse

_WHOLE = Budget()
_TRIES = 3


class PreparedCopy:
    """Keeper of a network's fused copy, which is made when it is first asked for and when the weights have changed.

    Budgets select parts of that one copy. Threads may ask at once: one makes the copy, the others wait for it. A copied
    or unpickled keeper is empty. A forked process uses one thread of torch from its first prediction on.
    """

    def __init__(self) -> None:
        self._copies = _Copies()

    def of(self, model: nn.Module, budget: Budget = _WHOLE) -> nn.Module:
        """Return the network fused for inference, or the part of it that a budget selects.

        Raises:
            UsageError: the budget exceeds what the network has, or another thread changes the weights meanwhile.
        """
        if _is_forked:
            _leave_lost_threads()
        copies = self._copies
        if budget in copies.networks and copies.weights.are_those_of(model):
            return copies.networks[budget]
        with _lock:
            return self._prepare(model, budget)

    def drop(self) -> None:
        """Drop the copies: to free their memory, or because the network has changed in a way that is not noticed."""
        with _lock:
            self._copies = _Copies()

    def _prepare(self, model: nn.Module, budget: Budget) -> nn.Module:
        if _WHOLE not in self._copies.networks or not self._copies.weights.are_those_of(model):
            self._copies = _Copies()
            self._copies = _copy(model)
        networks = self._copies.networks
        if budget not in networks:
            self._copies = _Copies(self._copies.weights, {**networks, budget: apply_budget(networks[_WHOLE], budget)})
        return self._copies.networks[budget]

    def __reduce__(self) -> tuple[type[PreparedCopy], tuple[()]]:
        return PreparedCopy, ()


class _Weights:
    """The weights of a network at one moment, by their addresses and by torch's counts of changes in place.

    Their memory is kept, so that no other tensor gets one of the addresses.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        self._tensors = _tensors(model) if model is not None else []
        self._state = [_state(tensor) for tensor in self._tensors]
        self._memory = [tensor.detach() for tensor in self._tensors]

    def are_those_of(self, model: nn.Module) -> bool:
        tensors = _tensors(model)
        return (
            len(tensors) == len(self._tensors)
            and all(tensor is known for tensor, known in zip(tensors, self._tensors, strict=True))
            and [_state(tensor) for tensor in tensors] == self._state
        )


@dataclass(frozen=True)
class _Copies:
    """The copies of a network by budget, and the weights that they were made from."""

    weights: _Weights = field(default_factory=_Weights)
    networks: Mapping[Budget, nn.Module] = field(default_factory=dict)


def _copy(model: nn.Module) -> _Copies:
    """Return the fused copy of a network, of weights that did not change while they were copied."""
    for _ in range(_TRIES):
        weights = _Weights(model)
        networks: dict[Budget, nn.Module] = {_WHOLE: fuse(model)}
        if weights.are_those_of(model):
            return _Copies(weights, networks)
    raise UsageError("Another thread changes the weights of this network; predict when it has finished.")


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _state(tensor: Tensor) -> tuple[int, int]:
    """Return the number of changes in place, which tensors made in inference mode do not count, and the address."""
    return 0 if tensor.is_inference() else tensor._version, tensor.data_ptr()


_lock = threading.RLock()  # one for all networks: it is held for a second, and copies of a keeper need none
_is_forked = False


def _note_fork() -> None:
    """Free the lock in a forked process, where the thread that holds it does not exist."""
    global _lock, _is_forked
    _lock, _is_forked = threading.RLock(), True


def _leave_lost_threads() -> None:
    """Compute in one thread from now on: OpenMP waits forever for threads that a fork did not copy."""
    global _is_forked
    torch.set_num_threads(1)
    _is_forked = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)

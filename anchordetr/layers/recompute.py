"""Gradient checkpointing: memory for time (Chen et al., 2016, arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from anchordetr.layers.memory import Memory
from anchordetr.layers.queries import Queries


@contextmanager
def recomputing(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Make layers keep only their inputs for the backward pass, which computes the rest again; gradients do not change.

    Names of parameters do not change, and on exit the layers are as before.

    Args:
        layers: called one after the other, such as those of an encoder.
    """
    held = list(layers)
    for layer in held:
        layer.forward = partial(checkpoint, partial(_call, layer.forward), use_reentrant=False)
    try:
        yield
    finally:
        for layer in held:
            del layer.forward


def _call(forward: Callable[..., Any], *arguments: Any) -> Any:
    """Call a layer on arguments without cached values: what one layer recomputes cannot be shared with another."""
    return forward(*(_uncached(argument) for argument in arguments))


def _uncached(argument: Any) -> Any:
    if isinstance(argument, (Memory, Queries)):
        positions: Any = argument.positions
        return replace(argument, positions=replace(positions))
    return argument

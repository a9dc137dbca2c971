"""Gradient checkpointing: memory for time (Chen et al., 2016, arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputing(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let layers keep only their inputs for the backward pass, which computes the rest again; gradients stay the same.

    Names of parameters do not change, and on leaving the layers are as before.

    Args:
        layers: called one after the other, such as those of an encoder.
    """
    held = list(layers)
    for layer in held:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in held:
            del layer.forward

"""Checks of weights before a network takes them: names, shapes and values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from anchordetr.errors import InputError
from anchordetr.finite import describe_non_finite, non_finite
from anchordetr.models.anchor_detr import TRAINING_ONLY

_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
DTYPES = _FLOATS | {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
"""The types that weights may have."""


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a network of the same architecture; half precision is converted to float32.

    Modules used only in training may differ: those without weights keep their values, and weights without a module are
    ignored.

    Raises:
        InputError: names or shapes differ; the message lists all differences.
    """
    own = {name: value for name, value in model.state_dict().items() if name.startswith(TRAINING_ONLY)}
    known = {name: value for name, value in weights.items() if name in own or not name.startswith(TRAINING_ONLY)}
    check_weights(model, own | known, source)
    model.load_state_dict(own | known)


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Check that names and shapes of weights are those of a network, which can be on the meta device.

    Raises:
        InputError: names or shapes differ; the message lists all differences.
    """
    own = model.state_dict()
    problems = [f"missing {name}" for name in own.keys() - weights.keys()]
    problems += [f"unexpected {name}" for name in weights.keys() - own.keys()]
    problems += [
        f"{name} is {_shape(weights[name])} instead of {_shape(own[name])}"
        for name in own.keys() & weights.keys()
        if weights[name].shape != own[name].shape
    ]
    if problems:
        listed = "; ".join(sorted(problems))
        raise InputError(f"The weights of {source} do not fit the model ({len(problems)} differences): {listed}.")


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Check that weights hold no NaN and no infinity.

    Raises:
        InputError: some do; the message names them.
    """
    if names := non_finite(weights):
        raise InputError(
            f"{source} is damaged: {describe_non_finite(names)}. A training that diverged, or a damaged copy, leaves "
            "such a file; use an earlier save."
        )


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"

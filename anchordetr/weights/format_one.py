"""Saved models of format version 1: their parameter names in today's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RENAMED = (
    (r"(key_encoder|query_encoder)\.", r"projection.\1."),
    (r"(class_head|box_head)\.", r"heads.\1."),
    (r"denoising\.", r"training_sources.denoising."),
)
_GROUP = re.compile(r"query_groups\.(\d+)\.")


def upgrade_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a model of format version 1 under today's names."""
    return {_renamed(name): value for name, value in weights.items()}


def _renamed(name: str) -> str:
    if group := _GROUP.match(name):
        return f"training_sources.group_{int(group[1]) + 1}.{name[group.end() :]}"
    for old, new in _RENAMED:
        name, count = re.subn(f"^{old}", new, name)
        if count:
            break
    return name

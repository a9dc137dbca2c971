"""Conversion of the parameter names of saved models of format version 1."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RENAMED = (
    (r"(key_encoder|query_encoder)\.", r"projection.\1."),
    (r"(class_head|box_head)\.", r"heads.\1."),
    (r"denoising\.", r"training_sources.denoising."),
    (r"(decoder\.layers\.\d+\.cross_attention)\.fuse\.", r"\1.merge."),
)
_GROUP = re.compile(r"query_groups\.(\d+)\.")


def upgrade_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of format version 1 under the current parameter names."""
    return {_renamed(name): value for name, value in weights.items()}


def _renamed(name: str) -> str:
    if group := _GROUP.match(name):
        return f"training_sources.group_{int(group[1]) + 1}.{name[group.end() :]}"
    for old, new in _RENAMED:
        name, count = re.subn(f"^{old}", new, name)
        if count:
            break
    return name

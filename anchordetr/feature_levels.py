"""The feature levels of a backbone: their strides, and the sets of them that a network can read."""

from __future__ import annotations

from typing import Literal

# Pixels of the image from one location of the level's map to the next; dc5 is the last stage, dilated.
STRIDES = {"c3": 8, "c4": 16, "c5": 32, "dc5": 16}

# A set is named after its levels, finest first.
FeatureSet = Literal["c3", "c4", "c5", "dc5", "c3_c4_dc5", "c4_c5", "c3_c4_c5"]

# Levels whose size all levels can be fused into.
FusionLevel = Literal["c3", "c4", "c5"]


def levels_of(features: str) -> tuple[str, ...]:
    """Return the levels of a set, finest first: ``("c3", "c4", "dc5")`` for ``c3_c4_dc5``."""
    return tuple(features.split("_"))


def strides_of(features: str) -> tuple[int, ...]:
    """Return the stride of each level of a set, in pixels: ``(8, 16, 16)`` for ``c3_c4_dc5``."""
    return tuple(STRIDES[level] for level in levels_of(features))


def is_dilated(features: str) -> bool:
    """Return whether a set needs the backbone's last stage dilated."""
    return "dc5" in levels_of(features)

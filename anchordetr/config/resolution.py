"""One resolution for evaluation and training, from which the three sizes of images follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from anchordetr.config.training import DataConfig, Side, sizes_of

RESOLUTION = "data.resolution"
SIZES = ("data.short_side", "data.long_side", "data.train_short_sides")
_READER = TypeAdapter(Side)


def with_sizes(changes: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
    """Return changes of ``section.key`` with the sizes that a new resolution sets, or the one that new sizes end.

    Sizes that are changed too stay as they are given; the section refuses those that contradict the resolution. A
    resolution that is no number of pixels sets nothing, and is refused there too.
    """
    if RESOLUTION not in changes:
        return {RESOLUTION: None, **changes} if any(key in changes for key in SIZES) else dict(changes)
    try:
        resolution = _READER.validate_python(changes[RESOLUTION])
    except ValidationError:
        return dict(changes)
    sizes = sizes_of(resolution, data.short_side, data.train_short_sides)
    return {f"data.{name}": value for name, value in sizes.items()} | dict(changes)


def without_sizes(changes: Mapping[str, Any], resolution: Any) -> dict[str, Any]:
    """Return changes without the sizes that a later resolution overrides; training sizes keep their ratio."""
    kept = {key: value for key, value in changes.items() if key not in SIZES}
    short, _, train = SIZES
    try:
        before = DataConfig(short_side=changes[short], train_short_sides=changes[train])
        sizes = sizes_of(_READER.validate_python(resolution), before.short_side, before.train_short_sides)
    except (KeyError, ValidationError):
        return kept
    return kept | {train: sizes["train_short_sides"]}

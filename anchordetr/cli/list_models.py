"""``anchordetr list-models``."""

from __future__ import annotations


def list_models() -> None:
    """Print the presets."""
    from anchordetr.models.builders import list_models as names

    for name in names():
        print(name)

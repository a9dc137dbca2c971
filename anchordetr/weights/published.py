"""Published COCO weights: where they are, and whether they are in the local cache; imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from anchordetr.weights.folder import WEIGHTS_FILE

_RELEASE = "https://github.com/IDEA-Research/detrex-storage/releases/download/v0.3.0"


@dataclass(frozen=True)
class Published:
    """Published weights.

    Attributes:
        file: name in the release.
        features: ``c5`` or ``dc5``.
        ap: published AP on COCO val2017, a fraction of 1.
    """

    file: str
    features: str
    ap: float

    @property
    def url(self) -> str:
        """The URL of the file; ``ANCHORDETR_MIRROR`` sets another base URL with the same files."""
        return f"{os.environ.get('ANCHORDETR_MIRROR', _RELEASE).rstrip('/')}/{self.file}"


PUBLISHED: dict[str, Published] = {
    "anchordetr_r50_c5": Published("converted_anchor_detr_r50_50ep.pth", "c5", 0.422),
    "anchordetr_r50_dc5": Published("converted_anchor_detr_r50_dc5_50ep.pth", "dc5", 0.442),
    "anchordetr_r101_c5": Published("converted_anchor_detr_r101_50ep.pth", "c5", 0.435),
    "anchordetr_r101_dc5": Published("converted_anchor_detr_r101_dc5_50ep.pth", "dc5", 0.451),
}


def cache_home() -> Path:
    """Return the cache folder: ``ANCHORDETR_HOME``, or ``anchordetr`` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "anchordetr"
    return Path(os.environ.get("ANCHORDETR_HOME", default)).expanduser()


def is_cached(name: str) -> bool:
    """Return whether a published model is in the cache."""
    return (cache_home() / name / WEIGHTS_FILE).is_file()

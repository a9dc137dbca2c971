"""Detection of the layout of a data set, and opening of its splits."""

from __future__ import annotations

import logging
from pathlib import Path

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.layouts import coco, roboflow, synthetic, voc, yolo
from anchordetr.data.layouts.base import FolderDataset
from anchordetr.data.layouts.image_scan import skip_unreadable
from anchordetr.errors import InputError, by_user
from anchordetr.registry import DATA_LAYOUTS

log = logging.getLogger("anchordetr")

__all__ = ["coco", "find_layout", "open_dataset", "roboflow", "synthetic", "voc", "yolo"]


def open_dataset(path: str | Path, split: str, layout: str = "auto", skip_broken: bool = False) -> DetectionDataset:
    """Open one split of a data set.

    Args:
        path: a folder, or ``shapes`` for the generated data set.
        split: ``train`` or ``val``.
        layout: a registered layout, or ``auto`` to detect it.
        skip_broken: decode every image now and skip those that cannot be read, with a warning that counts them.

    Raises:
        UsageError: no such layout is registered.
        InputError: the folder is missing, has no known layout, or its annotations are invalid.
    """
    path = Path(path)
    found = DATA_LAYOUTS[find_layout(path, layout)]
    if skip_broken and isinstance(found, type) and issubclass(found, FolderDataset):
        return found(skip_unreadable(found.read(path, split)))
    dataset: DetectionDataset = found.open(path, split)  # type: ignore[attr-defined]
    return dataset


def find_layout(path: Path, layout: str = "auto") -> str:
    """Return the layout of a data set: ``layout`` itself, or the detected one for ``auto``.

    A warning says if the folder has several layouts, of which the first is used.

    Raises:
        InputError: the folder is missing or has no known layout; the message says what it lacks for each layout.
    """
    if layout != "auto":
        return layout
    found = require_layout(path)
    if len(found) > 1:
        log.warning("%s has several layouts: %s; '%s' is used, data.layout chooses.", path, ", ".join(found), found[0])
    return found[0]


def require_layout(path: Path) -> list[str]:
    """Return the layouts that a data set has; no annotation is read.

    Raises:
        InputError: the folder is missing or has no known layout; the message says what it lacks for each layout.
    """
    reasons = {name: DATA_LAYOUTS[name].missing(path) for name in DATA_LAYOUTS.names()}  # type: ignore[attr-defined]
    if found := [name for name, reason in reasons.items() if reason is None]:
        return found
    if not path.exists():
        where = by_user("--data", "the argument data")
        raise InputError(f"The data set {path} does not exist; check {where}, or use 'shapes' for generated images.")
    missing = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    raise InputError(f"{path} has no known data layout. Looked for: {missing}.")

"""Which layout a data set has, found by looking."""

from __future__ import annotations

from pathlib import Path

from anchordetr.data import coco, shapes
from anchordetr.data.dataset import DetectionDataset
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

__all__ = ["coco", "open_dataset", "shapes"]


def open_dataset(path: str | Path, split: str, layout: str = "auto") -> DetectionDataset:
    """Open one split of a data set.

    Args:
        path: a folder, or ``shapes`` for the generated set.
        split: ``train`` or ``val``.
        layout: a registered layout, or ``auto`` to look which one fits.

    Raises:
        UsageError: no such layout is registered.
        InputError: the folder is missing, has no known layout, or the layout finds something wrong.
    """
    path = Path(path)
    dataset: DetectionDataset
    if layout != "auto":
        dataset = DATA_LAYOUTS[layout].open(path, split)  # type: ignore[attr-defined]
        return dataset
    reasons = []
    for name in DATA_LAYOUTS.names():
        candidate = DATA_LAYOUTS[name]
        reason = candidate.missing(path)  # type: ignore[attr-defined]
        if reason is None:
            dataset = candidate.open(path, split)  # type: ignore[attr-defined]
            return dataset
        reasons.append(f"{name} ({reason})")
    if not path.exists():
        raise InputError(f"The data set {path} does not exist; check --data, or use 'shapes' for generated pictures.")
    raise InputError(f"{path} has no known data layout. Looked for: {'; '.join(reasons)}.")

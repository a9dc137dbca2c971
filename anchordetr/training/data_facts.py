"""The facts about its data that a run keeps, so that it is not resumed on other data unnoticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.layouts.base import FolderDataset
from anchordetr.errors import limited, listed

_NAMED = 10


def describe_data(given: str | Path, train_set: DetectionDataset, val_set: DetectionDataset) -> dict[str, Any]:
    """Return path, numbers of images and fingerprint of both splits of a data set.

    The fingerprint is the SHA-256 of file names, image sizes and annotations, without pixels: it stays when the folder
    is moved, and takes a fraction of a second for COCO.

    Args:
        given: the data set as the user named it.
        train_set, val_set: its splits.
    """
    digest = hashlib.sha256()
    for dataset in (train_set, val_set):
        table = dataset.annotations
        names = table.file_names
        for column in (names.letters, names.ends, table.sizes, table.starts, table.boxes, table.labels, table.crowd):
            digest.update(f"{column.shape} ".encode())
            digest.update(column.tobytes())
    return {
        "path": os.path.abspath(given) if isinstance(train_set, FolderDataset) else str(given),
        "given": str(given),
        "train_images": len(train_set),
        "val_images": len(val_set),
        "fingerprint": digest.hexdigest(),
    }


def data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between the data of a saved state and the current data; nothing that one does not say.

    Args:
        before, now: ``class_names``, and ``data`` as :func:`describe_data` returned it; both may be missing.
    """
    changes = []
    if {"class_names"} <= before.keys() & now.keys() and before["class_names"] != now["class_names"]:
        old, new = (listed(list(map(str, names["class_names"])), _NAMED) for names in (before, now))
        changes.append(f"its classes were {old} and are now {new}")
    old_data, new_data = _data_in(before), _data_in(now)
    for split in ("train", "val"):
        numbers = [facts.get(f"{split}_images") for facts in (old_data, new_data)]
        if None not in numbers and numbers[0] != numbers[1]:
            changes.append(f"{split} had {limited(numbers[0])} images and has now {numbers[1]}")
    prints = {facts.get("fingerprint") for facts in (old_data, new_data)} - {None}
    if len(prints) > 1 and not changes:
        changes.append("its file names, image sizes or annotations have changed")
    return changes


def old_path(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return the path of the data of a saved state, if it is another one than now."""
    old, new = _data_in(before).get("path"), _data_in(now).get("path")
    return str(old) if None not in (old, new) and old != new else None


def _data_in(state: Mapping[str, Any]) -> Mapping[str, Any]:
    data = state.get("data")
    return data if isinstance(data, Mapping) else {}

"""The split ``val`` of a data set that has none: some of the training images, chosen by their names and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from anchordetr.data.layouts.base import FolderDataset, match_split
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.errors import InputError

_VAL = "val"


class Holdout(NamedTuple):
    """Which images are held out: a fraction of those of ``train``, None for no image, and the seed of the choice."""

    fraction: float | None = None
    seed: int = 0


def split_names(layout: type[FolderDataset], path: Path, holdout: Holdout) -> list[str]:
    """Return the names of all splits, with ``val`` if images are held out for it."""
    existing = list(layout.splits(path))
    applies = existing and holdout.fraction is not None and not has_val(existing)
    return [*existing, _VAL] if applies else existing


def read_split(layout: type[FolderDataset], path: Path, split: str, holdout: Holdout) -> RawSplit:
    """Return the raw annotations of a split; without a split ``val``, ``train`` and ``val`` are parts of ``train``.

    Raises:
        InputError: the split does not exist, or its files are invalid.
    """
    existing, fraction = layout.splits(path), holdout.fraction
    if has_val(existing):
        raw = layout.read(path, split)
        unused = "data.val_fraction is not used: the data set has a split for validation."
        return raw if fraction is None or split == _VAL else replace(raw, notes=(*raw.notes, unused))
    if split == _VAL and fraction is None and existing:
        raise InputError(
            f"{path} has no split 'val'; it has {', '.join(existing)}. Hold out a part of train for it with "
            "--val-fraction 0.2 in training, or evaluate another split with --split."
        )
    train = match_split(path, "train", existing) if existing and fraction is not None else None
    if fraction is None or train is None or (split != _VAL and match_split(path, split, existing) != train):
        return layout.read(path, split)
    return _part(layout.read(path, train), split == _VAL, fraction, holdout.seed)


def held_out_names(names: Collection[str], fraction: float, seed: int) -> set[str]:
    """Return the names that are held out, at least one and not all: those with the smallest hashes.

    Only the last part of a name counts if those differ, so that the choice is the same wherever the data set is and in
    every layout. Most of it stays the same when images are added or removed.
    """
    listed = sorted(set(names))
    last = [PurePath(name).name for name in listed]
    keys = dict(zip(listed, last if len(set(last)) == len(last) else listed, strict=True))

    def digest(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{keys[name]}".encode("utf-8", "surrogateescape")).digest()

    count = min(max(round(len(listed) * fraction), 1), len(listed) - 1)
    return set(sorted(listed, key=digest)[:count])


def _part(train: RawSplit, is_val: bool, fraction: float, seed: int) -> RawSplit:
    if len(set(train.file_names)) < 2:
        raise InputError(f"{train.source} has fewer than two images; none can be held out for validation.")
    held_out = held_out_names(train.file_names, fraction, seed)
    others = np.flatnonzero([(name in held_out) != is_val for name in train.file_names])
    left_out = {train.file_names[row] for row in others}
    part = train.without_images(others)
    note = (
        f"{len(part.file_names)} of {len(train.file_names)} images are {'val' if is_val else 'train'}, chosen with "
        f"data.val_fraction {fraction:g} and the seed {seed}."
    )
    findings = [
        replace(found, names=[name for name in found.names if name not in left_out]) for found in train.findings
    ]
    return replace(part, notes=(*train.notes, note), findings=tuple(findings))


def has_val(names: Collection[str]) -> bool:
    """Return whether one of the splits of a data set is for validation."""
    return any(name.startswith(_VAL) for name in names)

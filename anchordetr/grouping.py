"""Grouping of items that share a key, such as images of one size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Key = TypeVar("Key")


def group_by(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """Return the indices of each distinct key, in the order of first occurrence.

    Args:
        keys: one hashable key per item, for example ``image.shape``.
    """
    groups: dict[Key, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return groups

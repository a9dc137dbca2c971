"""The ids that a data set gives to its images, annotations and categories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def parse_id(value: object) -> int:
    """Return an id as an integer: an integer, a whole float, or a string of digits.

    Raises:
        ValueError: it is anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value):
        return int(value)
    raise ValueError("not an integer")


def id_array(ids: Sequence[int]) -> NDArray[Any]:
    """Return ids as int64, or as Python integers (dtype object) if one of them needs more than 64 bits."""
    try:
        return np.array(ids, dtype=np.int64)
    except OverflowError:
        return np.array(ids, dtype=object)

"""Lists of objects in an annotation file, read one key at a time."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from anchordetr.data.ids import parse_id
from anchordetr.errors import InputError

Value = TypeVar("Value")

_REQUIRED: Any = object()
_LARGEST_AREA = 1e30  # pixels²; what float32 holds
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


class Entries:
    """One list of an annotation file.

    Args:
        file, part: the file and the name of the list, for messages.
        entries: the list.

    Attributes:
        converted: how many ids that :meth:`ids` has returned are no integers in the file.

    Raises:
        InputError: an entry is not an object; the message names it.
    """

    def __init__(self, file: Path, part: str, entries: Sequence[Any]) -> None:
        for position, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise InputError(f"{file}: {part}[{position}] is {_SHORT.repr(entry)}; expected an object.")
        self.file = file
        self.part = part
        self.converted = 0
        self.entries: Sequence[dict[str, Any]] = entries

    def column(self, key: str, parse: Callable[[Any], Value], expected: str, default: Value = _REQUIRED) -> list[Value]:
        """Return the value of ``key`` in every entry; the default where it is missing or null.

        Args:
            parse: returns the value, or raises ValueError.
            expected: what it accepts, for the message.

        Raises:
            InputError: ``parse`` refuses a value; the message names the first such entry.
        """
        values = []
        for position, entry in enumerate(self.entries):
            value = entry.get(key)
            if value is None and default is not _REQUIRED:
                values.append(default)
                continue
            try:
                values.append(parse(value))
            except ValueError:
                given = _SHORT.repr(value) if key in entry else "nothing"
                raise InputError(
                    f"{self.file}: {self.part}[{position}] (id {_SHORT.repr(entry.get('id'))}) needs {expected} as "
                    f"'{key}'; got {given}."
                ) from None
        return values

    def ids(self, key: str, default: int = _REQUIRED) -> list[int]:
        """Return the ids in every entry, as :func:`~anchordetr.data.ids.parse_id` reads them."""
        self.converted += sum(isinstance(entry.get(key), (str, float)) for entry in self.entries)
        return self.column(key, parse_id, "an integer", default)


def parse_class_name(value: Any) -> str:
    """Return a string that is not blank and can be written, or an integer as a string; else raise ValueError."""
    name = str(parse_id(value)) if isinstance(value, int) else value
    if not isinstance(name, str) or not name.strip():
        raise ValueError("not a name")
    name.encode("utf-8")  # fails on half of a surrogate pair
    return name


def parse_file_name(value: Any) -> str:
    """Return a string that a file can have as its name; else raise ValueError."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("not a file name")
    os.fsencode(value)  # fails on half of a surrogate pair, unless it stands for a byte
    return value


def parse_area(value: Any) -> float:
    """Return a finite number; else raise ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST_AREA:
        return float(value)
    raise ValueError("not a number")


def parse_flag(value: Any) -> bool:
    """Return whether a value is 1 or true; raise ValueError unless it is 0, 1, false or true."""
    if value in (0, 1):
        return bool(value)
    raise ValueError("not a flag")


def side_or_unknown(value: Any) -> int:
    """Return a whole number of pixels, 0 for everything else."""
    try:
        side = parse_id(value)
    except ValueError:
        return 0
    return side if 0 < side < 2**31 else 0


def box_or_nan(value: Any) -> tuple[float, float, float, float]:
    """Return four numbers of at most 1e9, all NaN for everything else."""
    if isinstance(value, list) and len(value) == 4 and all(map(is_coordinate, value)):
        x, y, w, h = map(float, value)
        return x, y, w, h
    return (math.nan,) * 4


def is_coordinate(value: Any) -> bool:
    """Return whether a value is a number of at most 1e9."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e9

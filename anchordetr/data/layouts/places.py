"""Places that a data set's files name: what lies inside of the data set is preferred, and the rest is said."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_UPWARDS = re.compile(r"^(\./+)*\.\./+(\.{1,2}/+)*")
_DRIVE = re.compile(r"^[A-Za-z]:/")


class Place(NamedTuple):
    """An existing file or folder that an entry names.

    Attributes:
        path: below the data set's folder if ``inside``.
        other: another existing place outside of the data set that the entry names too, which is not used.
        shortened: whether the entry's first folders were left out, as no file or folder has the whole path.
    """

    path: Path
    inside: bool
    other: Path | None = None
    shortened: bool = False


def find_place(entry: str, bases: Sequence[Path], folder: Path) -> Place | None:
    """Return the existing place that an entry names, or None.

    Places inside of the data set come first, whichever base they are relative to: Roboflow writes ``../train/images``
    for ``train/images``. An absolute path that does not exist, as of another computer, is looked for in the data set
    by its last two or more parts, and a relative one without its first folders if that names one place only: CVAT
    writes ``data/images/x.jpg`` for ``images/x.jpg``. Windows' separators and ``~`` are understood.

    Args:
        entry: as written. bases: folders that it may be relative to. folder: of the data set.
    """
    candidates = list(_candidates(os.path.expanduser(entry), bases, folder))
    inside = (path for candidate in candidates if (path := below(candidate, folder)) and os.path.exists(path))
    outside = (Path(place) for place in candidates if below(place, folder) is None and os.path.exists(place))
    found = next(inside, None)
    if found is not None:
        return Place(found, True, next(outside, None))
    other = next(outside, None)
    if other is not None:
        return Place(other, False)
    inner = {path for place in _shorter(entry, bases) if (path := below(place, folder)) not in (None, folder)}
    shorter = [path for path in inner if path and os.path.exists(path)]
    return Place(shorter.pop(), True, shortened=True) if len(shorter) == 1 else None


def below(place: str, folder: Path) -> Path | None:
    """Return a normal absolute path as one that starts with ``folder``, or None if it is elsewhere."""
    for spelled in (os.path.abspath, os.path.realpath):
        start = spelled(folder)
        if place == start or place.startswith(start.rstrip(os.sep) + os.sep):
            return folder / place[len(start) :].lstrip(os.sep)
    return None


def _candidates(entry: str, bases: Sequence[Path], folder: Path) -> Iterator[str]:
    spellings = dict.fromkeys([entry, entry.replace("\\", "/")])
    for spelling in spellings:
        for base in bases:
            yield _join(base, spelling)
    last = [*spellings][-1]
    if last.startswith("/") or _DRIVE.match(last):
        if not os.path.exists(entry):
            parts = last.split("/")
            yield from (_join(folder, "/".join(parts[start:])) for start in range(1, len(parts) - 1))
    elif _UPWARDS.match(last):
        yield from (_join(base, _UPWARDS.sub("", last)) for base in bases)


def _shorter(entry: str, bases: Sequence[Path]) -> Iterator[str]:
    """Yield the places that a relative entry names without its first folders."""
    parts = entry.replace("\\", "/").removeprefix("./").split("/")
    if parts[0] not in ("", "..", "~") and not _DRIVE.match(parts[0] + "/"):
        for start in range(1, len(parts)):
            yield from (_join(base, tail) for base in bases if (tail := "/".join(parts[start:])))


def _join(base: Path, spelling: str) -> str:
    start = os.path.realpath(base) if ".." in spelling else os.path.abspath(base)
    return os.path.normpath(os.path.join(start, spelling))

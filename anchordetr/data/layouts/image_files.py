"""The files of listed images: the folder that holds them, and names that were written on another machine."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from anchordetr.errors import listed
from anchordetr.files import list_files

_NAMED = 3


class ImageFiles(NamedTuple):
    """The folder of the images, their names relative to it, and a note about everything unusual."""

    root: Path
    names: list[str]
    notes: tuple[str, ...]


def locate_images(names: Sequence[str], folders: Sequence[Path], data: Path) -> ImageFiles:
    """Return where listed images are: in the folder that holds most of them.

    A name that is not there is looked for without its first folders, with other separators, and in upper or lower case
    (``images/x.jpg``, ``images\\\\x.jpg``, ``/home/me/x.jpg`` and ``X.JPG`` for ``x.jpg``). A file that several names
    may mean is used for none of them. A name without a file stays as it is.

    Args:
        names: as listed.
        folders: existing folders, the most likely one first.
        data: the folder of the data set. Files outside are used last.
    """
    found: dict[str, str] = {}
    root = folders[0]
    counts = []
    for folder in folders:
        here = _find(set(names), folder, data)
        counts.append(len(here))
        if len(here) > len(found):
            found, root = here, folder
        if len(here) == len(set(names)):
            break
    other = [f"{name} is {file}" for name, file in found.items() if name != file]
    outside = [name for name, file in found.items() if _leaves(root, file, data)]
    notes = [
        f"images found under another path than the listed one: {_count(other)}." if other else "",
        f"images outside of the data set {data}: {_count(outside)}." if outside else "",
        "" if root == folders[0] else f"images are read from {root}; {folders[0]} holds {counts[0]} of them.",
    ]
    return ImageFiles(root, [found.get(name, name) for name in names], tuple(filter(None, notes)))


def _find(names: Iterable[str], folder: Path, data: Path) -> dict[str, str]:
    """Return the file of each name that has one, relative to the folder."""
    there = {name for name in names if os.path.isfile(os.path.join(folder, name))}
    found = {name: name for name in there if not _leaves(folder, name, data)}
    others = [name for name in names if name not in found]
    if others:
        used = {os.path.normpath(name) for name in found}
        index = _index(folder, {PurePath(name.strip()).suffix.lower() for name in others})
        meanings: dict[str, list[str]] = defaultdict(list)
        for name in others:
            file = _meant(name, index)
            if file is not None and file not in used:
                meanings[file].append(name)
        found |= {claims[0]: file for file, claims in meanings.items() if len(claims) == 1}
    return found | {name: name for name in there if name not in found}


def _index(folder: Path, suffixes: set[str]) -> dict[str, list[str]]:
    """Return the files below a folder by their comparable names."""
    index: dict[str, list[str]] = defaultdict(list)
    for file in list_files(folder, suffixes, recursive=True):
        name = file.relative_to(folder).as_posix()
        index[_comparable(name)].append(name)
    return index


def _meant(name: str, index: dict[str, list[str]]) -> str | None:
    """Return the one file that has the most parts at the end of its path in common with a name."""
    parts = [part for part in re.split(r"[/\\]+", name.strip()) if part not in ("", ".")]
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        files = index.get(_comparable(tail), [])
        if files:
            return tail if tail in files else files[0] if len(files) == 1 else None
    return None


def _comparable(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _leaves(folder: Path, name: str, data: Path) -> bool:
    """Return whether a name relative to a folder of the data set is a path outside of the data set."""
    if not os.path.isabs(name) and ".." not in name:
        return False
    path = os.path.abspath(os.path.join(folder, name))
    return not path.startswith(os.path.join(os.path.abspath(data), ""))


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} ({listed(names, _NAMED)})"

"""Files: bounded reading, listings without hidden files, and atomic writing.

Only regular files are read, so that a named pipe or a device never hangs the process. A reader never sees half a file,
and a failed write leaves the old one in place.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from anchordetr.disk import explained, require_space
from anchordetr.errors import InputError, WriteError
from anchordetr.temporary import remove_abandoned, temporary_folder

MEBIBYTE = 2**20
_LONGEST_NAME = 150  # bytes; file systems allow 255, and callers add numbers and suffixes
_LONGEST_COUNT = 10  # bytes of the number that keeps names distinct

_OTHER_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_regular_file(file: Path) -> os.stat_result:
    """Check that a file exists and is a regular one, and return its facts.

    Raises:
        InputError: it does not exist, cannot be reached, or is a folder, a named pipe, a socket or a device.
    """
    try:
        facts = file.stat()
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise InputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if kind := _other_kind(facts):
        raise InputError(f"{file} is {kind}; a regular file is needed here.")
    return facts


def require_replaceable(file: Path) -> None:
    """Check that a file that is to be written is a regular one, or none yet: a device would be gone afterwards.

    Raises:
        WriteError: it is a folder, a named pipe, a socket or a device.
    """
    if os.path.exists(file) and (kind := _other_kind(file.stat())):
        raise WriteError(f"{file} is {kind} and is not replaced; name a file for the output.")


def _other_kind(facts: os.stat_result) -> str:
    """Return what something is that is no regular file; empty for one."""
    if stat.S_ISREG(facts.st_mode):
        return ""
    return _OTHER_KINDS.get(stat.S_IFMT(facts.st_mode), "a special file")


def read_bytes(file: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        InputError: the file is missing, not regular, larger, or cannot be read.
    """
    size = require_regular_file(file).st_size
    content = b""
    if size <= limit:
        try:
            with file.open("rb") as stream:
                # a file may grow, and those of /proc have a size of 0; what a read asks for is allocated before it
                while len(content) <= limit and (piece := stream.read(max(size, MEBIBYTE))):
                    content += piece
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    if (size := max(size, len(content))) > limit:
        raise InputError(f"{file} has {size:,} bytes; at most {limit:,} are read from such a file.")
    return content


def read_text(file: Path, limit: int) -> str:
    """Return the text of a regular UTF-8 file of at most ``limit`` bytes, without its byte order mark.

    Raises:
        InputError: as :func:`read_bytes`, or the content is not UTF-8.
    """
    try:
        return read_bytes(file, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not a text file in UTF-8: {error}.") from error


def list_files(folder: Path, suffixes: Collection[str], recursive: bool = False) -> list[Path]:
    """Return the files of a folder with one of the suffixes, sorted; hidden files and folders are left out.

    Symbolic links are followed, each folder once. Sub-folders are listed too if ``recursive``.

    Args:
        folder: an existing folder.
        suffixes: in lower case, with the dot; upper case matches too.

    Raises:
        InputError: the folder cannot be listed.
    """
    try:
        return sorted(file for file in _visible(folder, recursive) if file.suffix.lower() in suffixes)
    except OSError as error:
        raise InputError(f"The folder {error.filename or folder} cannot be listed: {error.strerror}.") from error


def numbered(folder: Path) -> Iterator[Path]:
    """Yield a folder's path and, without an end, those that stand beside it with the numbers 2, 3, ...: ``train-2``."""
    yield folder
    for number in itertools.count(2):
        yield folder.with_name(f"{folder.name}-{number}")


def list_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones.

    Raises:
        InputError: the folder cannot be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be listed: {error.strerror}.") from error


def is_hidden(name: str) -> bool:
    """Return whether a file's or folder's name hides it (``.DS_Store``, ``._image.jpg``, ``.ipynb_checkpoints``)."""
    return name.startswith(".")


def safe_name(name: str, taken: set[str]) -> str:
    """Return a file name for something that somebody else named, and add it to the names ``taken``.

    It is the last part of ``name`` without characters that a file system or a terminal treats specially, at most
    150 bytes long with its suffix kept, and differs from all names taken, also where upper and lower case are equal.

    Args:
        name: any text, such as ``../a/b.png``.
        taken: the names given so far in one folder, in lower case.
    """
    last = re.split(r"[/\\]", name)[-1]
    cleaned = re.sub(r'[<>:"|?*]', "_", "".join(character if character.isprintable() else "_" for character in last))
    stem, suffix = os.path.splitext(cleaned.strip(". ") or "unnamed")
    suffix = _shortened(suffix, _LONGEST_NAME // 4)
    stem = _shortened(stem, _LONGEST_NAME - len(suffix.encode()) - _LONGEST_COUNT)
    counts = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    chosen = next(name for count in counts if (name := stem + count + suffix).lower() not in taken)
    taken.add(chosen.lower())
    return chosen


def _shortened(text: str, limit: int) -> str:
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def _visible(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the regular files below a folder that are not hidden."""
    pending, seen = [folder], set()
    while pending:
        current = pending.pop()
        facts = current.stat()
        if (facts.st_dev, facts.st_ino) in seen:
            continue
        seen.add((facts.st_dev, facts.st_ino))
        with os.scandir(current) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_file():
                    yield current / entry.name
                elif recursive and entry.is_dir():
                    pending.append(current / entry.name)


def write_atomically(path: Path, write: Callable[[Path], object], size: int = 0, previous: Path | None = None) -> None:
    """Let ``write`` fill a temporary file in the same folder, then move it to ``path``.

    What dead processes left when they wrote the same file is removed first.

    Args:
        path: the file to write or replace.
        write: gets the path of the temporary file.
        size: number of bytes of the new file, as far as known; if less is free, nothing is written.
        previous: keeps the file that is replaced; of the same folder.

    Raises:
        WriteError: the disk is full, the folder cannot be written, ``path`` is a device, and the like.
    """
    require_replaceable(path)
    prefix = f".{_shortened(path.name, _LONGEST_NAME)}."
    remove_abandoned(path.parent, prefix)
    require_space(path, size)
    with temporary_folder(path, prefix) as folder, explained(path, folder / path.name, size):
        temporary = folder / path.name
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors leaves a file that only its owner can read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous, folder / "previous")
        temporary.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; halves of surrogate pairs are written as escapes, which JSON reads back."""
    content = text.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(content), len(content))


def _keep(path: Path, previous: Path, link: Path) -> None:
    """Give a file the name ``previous``; it keeps its own, so that it has a name at every moment."""
    try:
        link.hardlink_to(path)
    except OSError:  # a file system without links
        path.replace(previous)
    else:
        link.replace(previous)

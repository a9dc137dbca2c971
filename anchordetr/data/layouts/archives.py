"""Data sets in ``.zip`` files: unpacked once beside the file, after all names and sizes were checked."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from anchordetr.disk import explained, require_space
from anchordetr.errors import InputError, limited, reason
from anchordetr.files import MEBIBYTE, is_hidden, require_regular_file
from anchordetr.locks import locked
from anchordetr.temporary import remove_abandoned, temporary_folder

log = logging.getLogger("anchordetr")

_SPLITS = ("train", "val", "test")
_MAC_FOLDER = "__MACOSX"
_MOST_ENTRIES = 5_000_000
_ALWAYS_ALLOWED = 1024 * MEBIBYTE
_LARGEST_RATIO = 200  # of unpacked to packed bytes: images hardly shrink, annotations by a factor of about ten
_DIGITS = 12  # of the hash in the folder's name
_PIECE = 4 * MEBIBYTE


def is_archive(path: Path) -> bool:
    """Return whether a path is a file that ends in ``.zip``."""
    return path.suffix.lower() == ".zip" and path.is_file()


def unpacked(archive: Path) -> Path:
    """Return the data set's folder in an archive, unpacked beside it unless that was done before.

    The folder's name has a hash of the names, sizes and checksums of the content, so that a changed archive is unpacked
    to another folder and nothing is overwritten. Folders that hold nothing but one folder are passed through.

    Raises:
        InputError: the file is damaged or encrypted, a name leads out of the folder or is used twice, an entry is a
            link, or the content is too large; the message names the entry.
        WriteError: there is no room, or the folder beside the archive cannot be written.
    """
    require_regular_file(archive)
    try:
        with ZipFile(archive) as opened:
            entries = _checked(archive, opened.infolist())
            folder = archive.parent / f"{archive.stem}-{_digest(entries)}"
            if not folder.is_dir():
                _unpack(archive, opened, entries, folder)
                log.warning("%s is unpacked to %s, which later runs use again.", archive, folder)
    except InputError:
        raise
    except Exception as error:  # zipfile raises whatever its decoders and struct raise
        raise InputError(
            f"{archive} cannot be unpacked: {reason(error)}. Unpack it yourself, and give its folder."
        ) from error
    return _inner(folder)


def _checked(archive: Path, entries: Sequence[ZipInfo]) -> list[ZipInfo]:
    """Return the files of an archive, without those that a Mac adds."""
    if len(entries) > _MOST_ENTRIES:
        raise InputError(f"{archive} has {len(entries):,} entries; at most {_MOST_ENTRIES:,} are unpacked.")
    files = [entry for entry in entries if not entry.is_dir() and _MAC_FOLDER not in entry.filename.split("/")]
    taken: set[str] = set()
    for entry in files:
        if fault := _fault(entry, taken):
            raise InputError(f"{archive}: the entry {limited(repr(entry.filename))} {fault}; nothing was unpacked.")
    folders = {str(parent).casefold() for entry in files for parent in PurePosixPath(entry.filename).parents}
    if both := folders & taken:
        raise InputError(f"{archive}: {limited(repr(min(both)))} is a file and a folder; nothing was unpacked.")
    size, packed = sum(entry.file_size for entry in files), archive.stat().st_size
    if size > max(_ALWAYS_ALLOWED, _LARGEST_RATIO * packed):
        raise InputError(
            f"{archive} has {packed:,} bytes and would unpack to {size:,}, more than images and annotations do; "
            "unpack it yourself if you trust it, and give its folder."
        )
    return files


def _fault(entry: ZipInfo, taken: set[str]) -> str:
    """Return what is wrong with an entry, empty if nothing is; its name is added to those taken."""
    name = entry.filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or another special file"
    if entry.flag_bits & 1:
        return "is encrypted"
    if "\\" in name or ":" in name or "\0" in name or not all(part not in ("", ".", "..") for part in name.split("/")):
        return "has a name that may lead out of the folder"
    if name.casefold() in taken:
        return "is there twice, perhaps in upper and lower case"
    taken.add(name.casefold())
    return ""


def _digest(entries: Sequence[ZipInfo]) -> str:
    facts = sorted((entry.filename, entry.file_size, entry.CRC) for entry in entries)
    return hashlib.sha256(ascii(facts).encode()).hexdigest()[:_DIGITS]


def _unpack(archive: Path, opened: ZipFile, entries: Sequence[ZipInfo], folder: Path) -> None:
    """Write all files to a temporary folder, which gets its name when it is whole; one process at a time does."""
    size = sum(entry.file_size for entry in entries)
    prefix = f".{folder.name}."
    with locked(folder.with_name(f"{prefix}lock")):
        if folder.is_dir():
            return
        remove_abandoned(folder.parent, prefix)
        require_space(folder, size)
        with temporary_folder(folder, prefix) as temporary:
            (whole := temporary / "whole").mkdir()
            for entry in entries:
                _write(opened, entry, whole.joinpath(entry.filename), folder)
            whole.rename(folder)


def _write(opened: ZipFile, entry: ZipInfo, file: Path, folder: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, file.open("xb") as target, explained(folder, file, entry.file_size):
        shutil.copyfileobj(source, target, _PIECE)


def _inner(folder: Path) -> Path:
    """Return the first folder below that has something beside one folder; folders of splits are not passed through."""
    visible = [entry for entry in os.scandir(folder) if not is_hidden(entry.name)]
    if len(visible) == 1 and visible[0].is_dir() and not visible[0].name.startswith(_SPLITS):
        return _inner(folder / visible[0].name)
    return folder

"""Disks: whether they have room, and sentences for what fails when they are written."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anchordetr.errors import WriteError, reason

_FULL = (errno.ENOSPC, errno.EDQUOT)


def require_space(path: Path, size: int) -> None:
    """Check that ``size`` bytes are free on the disk of the folder in which ``path`` is to be written.

    Raises:
        WriteError: fewer are free, or there is no such folder.
    """
    try:
        usage = shutil.disk_usage(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    if usage.total and usage.free < size:  # some network file systems count nothing
        raise write_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), f"{size:,}", usage.free)


def make_writable_folder(folder: Path) -> None:
    """Create a folder where there is none, and check that files can be written to it.

    Raises:
        WriteError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        cause = getattr(error, "strerror", None) or reason(error)
        message = f"{folder} cannot be written ({cause}); choose another folder for the output."
        raise WriteError(message, getattr(error, "errno", None)) from error


@contextmanager
def explained(path: Path, temporary: Path, size: int) -> Iterator[None]:
    """Convert errors of the disk to a sentence, however a library words them.

    Args:
        path: the file that is to be written.
        temporary: the file that is written first.
        size: number of bytes, as far as known.

    Raises:
        WriteError: writing failed. Other errors stay as they are.
    """
    try:
        yield
    except Exception as error:
        cause = _system_error(error, temporary)
        if cause is None:
            raise
        written = temporary.stat().st_size if os.path.isfile(temporary) else 0
        free = shutil.disk_usage(temporary.parent).free + written
        if written:
            os.truncate(temporary, 0)  # torch keeps the file open after a failure, and with it the space
        needed = f"{size:,}" if size else f"more than {written:,}"
        raise write_error(path, cause, needed, free) from error


def write_error(path: Path, error: OSError, needed: str = "", free: int = 0) -> WriteError:
    """Return the error of a file that cannot be written.

    Args:
        path: the file. error: what the system said.
        needed: number of bytes, for a full disk. free: bytes on the disk.
    """
    said = error.strerror or reason(error)
    if error.errno in _FULL:
        text = f"the disk of {_mount_point(path)} is full ({said}); bytes needed: {needed}, free: {free:,}. "
        advice = "Make room there, or choose another folder; what was there before is unchanged."
    elif error.errno == errno.EFBIG:
        text = f"{said}; bytes needed: {needed}, beyond the limit of this disk or this process (ulimit -f). "
        advice = "Raise the limit, or choose another folder; what was there before is unchanged."
    else:
        text, advice = f"{said}. ", "Check its folder, or choose another one."
    return WriteError(f"{path} cannot be written: {text}{advice}", error.errno)


def _system_error(error: Exception, temporary: Path) -> OSError | None:
    """Return the system's error behind a failed write; None if something else failed."""
    if isinstance(error, OSError):
        return error
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        return OSError(int(found[1]), os.strerror(int(found[1])))
    try:  # torch does not say what failed, and a disk that was full still is
        with temporary.open("ab") as file:
            file.write(bytes(2**16))
    except OSError as cause:
        return cause
    return None


def _mount_point(path: Path) -> Path:
    folder = path.absolute().parent.resolve()
    return next(parent for parent in (folder, *folder.parents) if parent.is_mount() or parent == parent.parent)

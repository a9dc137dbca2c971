"""Temporary folders that are removed when their process ends, or after it was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anchordetr.disk import write_error
from anchordetr.locks import Lock

_SUFFIX = ".anchordetr.tmp"


@contextmanager
def temporary_folder(path: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder beside a file, and remove it afterwards; it is locked as long as this process needs it.

    It is a folder because safetensors writes a temporary file of its own beside the file that it is given.

    Args:
        path: the file that is to be written.
        prefix: of the folder's name.

    Raises:
        WriteError: no folder can be made there.
    """
    folder, lock = _locked_folder(path, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def remove_abandoned(parent: Path, prefix: str = ".") -> None:
    """Remove the temporary folders of dead processes.

    Those that cannot be locked, because a living process has the lock or the file system has no locks, stay.

    Args:
        parent: the folder that they are in; it may be missing.
        prefix: of their names.
    """
    try:
        names = [name for name in os.listdir(parent) if name.startswith(prefix) and name.endswith(_SUFFIX)]
    except OSError:
        return
    for name in names:
        _remove_if_abandoned(parent / name)


def _locked_folder(path: Path, prefix: str) -> tuple[Path, Lock]:
    while True:
        try:
            folder = Path(tempfile.mkdtemp(_SUFFIX, prefix, path.parent))
        except OSError as error:
            raise write_error(path, error) from error
        lock = _lock_of(folder)
        with suppress(OSError):  # it was removed before it was locked, or the file system has no locks
            lock.acquire(wait=True)
        if folder.exists():
            return folder, lock
        lock.release()


def _remove_if_abandoned(folder: Path) -> None:
    lock = _lock_of(folder)
    with suppress(OSError):
        if lock.acquire():
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()


def _lock_of(folder: Path) -> Lock:
    return Lock(folder / ".lock")

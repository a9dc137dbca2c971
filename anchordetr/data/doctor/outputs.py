"""Checks of the places for output, made before the data set is examined."""

from __future__ import annotations

import os
from pathlib import Path

from anchordetr.errors import InputError


def check_new_folder(folder: Path) -> None:
    """Check that a folder can be written to and is new or empty.

    Raises:
        InputError: it is not.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is no folder; choose a new folder for the repaired copy.")
    check_writable(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose a new folder for the repaired copy.")


def check_writable(folder: Path) -> None:
    """Check that files can be written to a folder, which need not exist yet.

    Raises:
        InputError: it cannot be made or written to.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(parent))
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be written: {existing} is no folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {existing} is read-only.")

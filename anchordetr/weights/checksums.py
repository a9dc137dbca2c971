"""The SHA-256 of files, remembered in one JSON file that several processes and threads extend."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from anchordetr.console import say
from anchordetr.documents import read_json
from anchordetr.errors import InputError
from anchordetr.files import MEBIBYTE, write_json
from anchordetr.locks import locked


def sha256(file: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remembered(file: Path, key: str) -> str | None:
    """Return the checksum remembered under ``key``, or None; a damaged file is reported and holds none."""
    try:
        return _read(file).get(key)
    except InputError as error:
        say(f"{error} Its checksums are not used, and it is written anew when a model is fetched or read.")
        return None


def remember(file: Path, checksums: Mapping[str, str]) -> None:
    """Add checksums to those of the file; what others add at the same time is kept.

    Raises:
        OSError: the file cannot be written.
    """
    with locked(file.with_name(f"{file.name}.lock")):
        known: dict[str, str] = {}
        with contextlib.suppress(InputError):
            known = _read(file)
        write_json(file, known | dict(checksums))


def _read(file: Path) -> dict[str, str]:
    """Return all checksums of the file; none if it does not exist.

    Raises:
        InputError: it is damaged.
    """
    if not os.path.lexists(file):
        return {}
    content = read_json(file, MEBIBYTE)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise InputError(f"{file} is damaged: it is no JSON object of checksums.")
    return content

"""Files that are something else than their name says, recognised by their first bytes."""

from __future__ import annotations

from pathlib import Path

from anchordetr.errors import InputError
from anchordetr.files import require_regular_file

_LFS_POINTER = b"version https://git-lfs"
_SAFETENSORS_HEADER = 8  # offset of the header's first byte
_START = 512


def check_content(file: Path) -> None:
    """Check that a file of weights is a regular file, and not one that is often saved in its place.

    Raises:
        InputError: it is missing, no regular file, empty, a Git LFS pointer or a web page; the message says what to do.
    """
    if require_regular_file(file).st_size == 0:
        raise InputError(f"{file} is damaged: it is empty. Save, copy or fetch it again.")
    if is_safetensors(start := first_bytes(file)):
        return
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(_LFS_POINTER):
        raise InputError(
            f"{file} is a Git LFS pointer, a text that stands for the weights. Run 'git lfs pull' in its repository, "
            "or download the file itself."
        )
    if start[:1] == b"<":
        raise InputError(f"{file} is damaged: it is a web page, not weights. Download the file itself, not its page.")


def first_bytes(file: Path) -> bytes:
    """Return up to 512 bytes from the start of a regular file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return stream.read(_START)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error


def is_safetensors(start: bytes) -> bool:
    """Return whether a file that starts with these bytes is in the format of safetensors."""
    return start[_SAFETENSORS_HEADER : _SAFETENSORS_HEADER + 1] == b"{"


def is_pickle(start: bytes) -> bool:
    """Return whether a file that starts with these bytes is what ``torch.save`` writes: a zip archive or a pickle."""
    return start.startswith((b"PK\x03\x04", b"\x80\x02")) and not is_safetensors(start)

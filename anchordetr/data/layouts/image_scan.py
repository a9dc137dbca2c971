"""A scan of the image files of a split: sizes from headers, and full decoding with content hashes."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from anchordetr.data.findings import Finding
from anchordetr.data.images import IMAGE_BYTES, read_image, read_size
from anchordetr.data.layouts.raw import UNKNOWN_SIZE, RawSplit
from anchordetr.errors import InputError
from anchordetr.files import read_bytes

log = logging.getLogger("anchordetr")

Result = TypeVar("Result")

_MANY = 1000
_THREADS = 8  # decoding and disk reads release the interpreter lock


class ScannedImage(NamedTuple):
    """A decoded image file: upright height and width, SHA-256 of its bytes, and the error if it cannot be read."""

    height: int
    width: int
    digest: bytes
    error: str | None


def scan_image(file: Path) -> ScannedImage:
    """Read and decode an image file once."""
    try:
        content = read_bytes(file, IMAGE_BYTES)
    except InputError as error:
        return ScannedImage(0, 0, b"", str(error))
    digest = hashlib.sha256(content).digest()
    try:
        height, width = read_image(io.BytesIO(content), str(file)).shape[:2]
    except InputError as error:
        return ScannedImage(0, 0, digest, str(error))
    return ScannedImage(height, width, digest, None)


def scan_images(split: RawSplit) -> list[ScannedImage]:
    """Read and decode every image of a split."""
    return map_files(scan_image, [split.path(row) for row in range(len(split.file_names))])


def skip_unreadable(split: RawSplit) -> RawSplit:
    """Return the split without images that cannot be decoded, with a warning that counts and names them.

    Missing files stay in the split: validation refuses them.
    """
    images = scan_images(split)
    broken = [row for row, image in enumerate(images) if image.error and split.path(row).is_file()]
    if broken:
        names = [split.file_names[row] for row in broken]
        log.warning("%s", Finding("skipped", names).sentence(split.source))
    return split.without_images(np.array(broken, dtype=np.int64))


def map_files(function: Callable[[Path], Result], files: Sequence[Path]) -> list[Result]:
    """Return ``function(file)`` of every file in order, computed by several threads.

    A progress bar is shown for more than 1,000 files if stderr is a terminal.
    """
    console = Console(stderr=True)
    show_progress = console.is_terminal and len(files) > _MANY
    with ThreadPoolExecutor(_THREADS) as pool:
        results = pool.map(function, files)
        return list(track(results, "files", len(files), console=console, transient=True, disable=not show_progress))


def read_sizes(files: Sequence[Path]) -> NDArray[np.int64]:
    """Return height and width of each upright image, (I, 2), from the headers; 0 where a file cannot be read."""
    return np.array(map_files(_size_or_unknown, files), dtype=np.int64).reshape(-1, 2)


def _size_or_unknown(file: Path) -> tuple[int, int]:
    try:
        return read_size(file)
    except InputError:
        return UNKNOWN_SIZE

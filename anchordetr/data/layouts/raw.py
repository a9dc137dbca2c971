"""Annotations as a data set writes them, before anything is checked or repaired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from anchordetr.data.images import read_size
from anchordetr.errors import InputError

Result = TypeVar("Result")

NO_ID = -1
UNKNOWN_SIZE = (0, 0)
_MANY = 1000
_THREADS = 8  # decoding and waiting for a disk both leave Python's lock


@dataclass(frozen=True)
class WrittenSplit:
    """One split, column by column: I images, T annotations. Nothing has been checked against anything else.

    Attributes:
        source: annotation file or folder, for messages. root: the folder that ``file_names`` start from.
        class_names, category_ids: of each class index, in the order of the ids.
        image_ids: (I,). file_names: of the images.
        sizes: (I, 2) height and width in pixels of the upright images, 0 where not known.
        box_ids: (T,) the data set's own, ``NO_ID`` where it gives none. box_names: what messages call them.
        box_image_ids: (T,) the image that an annotation names.
        boxes: (T, 4) x, y, w, h in pixels, NaN where they are no numbers.
        box_categories: (T,) category ids. areas: (T,) pixels², NaN where not given. crowd: (T,).
        notes: what reading left out or took for granted, one sentence each.
    """

    source: Path
    root: Path
    class_names: list[str]
    category_ids: list[int]
    image_ids: NDArray[np.int64]
    file_names: list[str]
    sizes: NDArray[np.int64]
    box_ids: NDArray[np.int64]
    box_names: list[str]
    box_image_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    box_categories: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    @cached_property
    def image_rows(self) -> NDArray[np.int64]:
        """The row of each annotation's image, (T,); -1 where its id is not listed."""
        return _rows_of(self.image_ids, self.box_image_ids)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class index of each annotation, (T,); -1 where its category is not listed."""
        return _rows_of(np.array(self.category_ids, dtype=np.int64), self.box_categories)

    def path(self, row: int) -> Path:
        """Return the file of an image."""
        return self.root / self.file_names[row]


def _rows_of(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position in ``ids`` of each wanted id, -1 where it is not there."""
    if len(ids) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    found = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[found] == wanted, found, -1)


def for_each_file(look: Callable[[Path], Result], files: Sequence[Path]) -> list[Result]:
    """Call a function on every file, several at a time, and return its answers in order.

    A bar on stderr shows the progress, if there are many files and somebody watches.
    """
    console = Console(stderr=True)
    watched = console.is_terminal and len(files) > _MANY
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = pool.map(look, files)
        return list(track(answers, "files", len(files), console=console, transient=True, disable=not watched))


def sizes_of(files: Sequence[Path]) -> NDArray[np.int64]:
    """Return height and width of each upright image, (I, 2); 0 where a file cannot be read."""
    return np.array(for_each_file(_size_or_unknown, files), dtype=np.int64).reshape(-1, 2)


def _size_or_unknown(file: Path) -> tuple[int, int]:
    try:
        return read_size(file)
    except InputError:
        return UNKNOWN_SIZE

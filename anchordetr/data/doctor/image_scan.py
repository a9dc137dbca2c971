"""Looking at the image files of a data set: what cannot be read, what has another size, what is there twice."""

from __future__ import annotations

import hashlib
import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.doctor.validation import Finding
from anchordetr.data.images import read_image
from anchordetr.data.layouts.raw import WrittenSplit, for_each_file
from anchordetr.errors import InputError

log = logging.getLogger("anchordetr")


class ScannedImage(NamedTuple):
    """What an image file holds: upright height and width, a hash of its bytes, and why it cannot be read, if so."""

    height: int
    width: int
    digest: bytes
    error: str | None


def look_at(file: Path) -> ScannedImage:
    """Read and decode an image file once."""
    try:
        content = file.read_bytes()
    except OSError as error:
        return ScannedImage(0, 0, b"", f"{file} cannot be read: {error}")
    digest = hashlib.sha256(content).digest()
    try:
        height, width = read_image(io.BytesIO(content), str(file)).shape[1:]
    except InputError as error:
        return ScannedImage(0, 0, digest, str(error))
    return ScannedImage(height, width, digest, None)


def look_at_all(split: WrittenSplit) -> list[ScannedImage]:
    """Read and decode every image of a split."""
    return for_each_file(look_at, [split.path(row) for row in range(len(split.file_names))])


def without_broken(split: WrittenSplit) -> WrittenSplit:
    """Return a split without the images that are there but cannot be decoded; a warning counts and names them."""
    images = look_at_all(split)
    broken = [row for row, image in enumerate(images) if image.error and split.path(row).is_file()]
    if broken:
        names = [split.file_names[row] for row in broken]
        log.warning("%s", Finding("skipped", names).sentence(split.source))
    return without_images(split, np.array(broken, dtype=np.int64))


def without_images(split: WrittenSplit, rows: NDArray[np.int64]) -> WrittenSplit:
    """Return a split without some images and their annotations."""
    images = np.setdiff1d(np.arange(len(split.file_names)), rows)
    return select(split, images, np.flatnonzero(~np.isin(split.image_rows, rows)))


def select(split: WrittenSplit, images: NDArray[np.int64], boxes: NDArray[np.int64]) -> WrittenSplit:
    """Return the images and annotations of the given rows."""
    return replace(
        split,
        image_ids=split.image_ids[images],
        file_names=[split.file_names[row] for row in images],
        sizes=split.sizes[images],
        box_ids=split.box_ids[boxes],
        box_names=[split.box_names[row] for row in boxes],
        box_image_ids=split.box_image_ids[boxes],
        boxes=split.boxes[boxes],
        box_categories=split.box_categories[boxes],
        areas=split.areas[boxes],
        crowd=split.crowd[boxes],
    )

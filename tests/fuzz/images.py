"""Image files of every format that is read, with EXIF blocks of every kind."""

from __future__ import annotations

from pathlib import Path
from random import Random

from fuzz.mutations import mutated_bytes
from fuzz.outcome import FileTarget
from image_bytes import encoded, exif_blocks, jpeg, orientation_tags, png_early, png_late, png_text, tiff, webp

from anchordetr.data.images import IMAGE_FORMATS, read_image, read_orientation, read_size

SEEDS = [
    *map(encoded, IMAGE_FORMATS),
    *(write(block) for _, block in exif_blocks(6) for write in (jpeg, png_early, png_late, png_text, webp)),
    *map(tiff, orientation_tags(6).values()),
]


def target(folder: Path) -> FileTarget:
    """Return an image file, whose header and decoder must agree on its size."""
    file = folder / "image"

    def read() -> None:
        height, width = read_image(file, str(file)).shape[:2]
        assert read_size(file) == (height, width)
        assert 1 <= read_orientation(file) <= 8

    return FileTarget(file, read, mutate)


def mutate(random: Random) -> bytes:
    return mutated_bytes(random.choice(SEEDS), random, random.choice(SEEDS))

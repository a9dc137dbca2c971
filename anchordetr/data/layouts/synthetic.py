"""The generated data set of shapes: a small detection task without files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from anchordetr.data.dataset import AnnotationTable, DetectionDataset, ImageRecord
from anchordetr.data.layouts.base import choose_split
from anchordetr.registry import DATA_LAYOUTS

CLASS_NAMES = ("circle", "rectangle", "triangle")
_SUPERSAMPLING = 3
_VIVID = np.array([*range(50), *range(206, 256)])
_SPLITS = {"train": 0, "val": 1}


class Shape(NamedTuple):
    """One object: class index, box x, y, w, h in pixels, RGB colour, and direction of a triangle."""

    label: int
    box: tuple[float, float, float, float]
    colour: tuple[int, int, int]
    direction: int


@DATA_LAYOUTS.register("shapes")
class ShapesDataset(DetectionDataset):
    """Vivid circles, rectangles and triangles on muted, textured backgrounds, small objects in front of large ones.

    About a third of the objects share their centre with another one. An image depends only on the seed, the split and
    its index.

    Args:
        split: ``train`` or ``val``, which share no images.
        length: number of images.
        size: height and width in pixels.
        max_objects: the largest number of objects per image.
        seed: of the data set.
    """

    def __init__(self, split: str, length: int, size: int = 64, max_objects: int = 5, seed: int = 0) -> None:
        self.class_names = list(CLASS_NAMES)
        self.category_ids = list(range(1, len(CLASS_NAMES) + 1))
        self._images = np.empty((length, size, size, 3), dtype=np.uint8)
        records = []
        for index in range(length):
            rng = default_rng((seed, _SPLITS[split], index))
            shapes = draw_scene(rng, size, max_objects)
            self._images[index] = render(rng, size, shapes)
            records.append(_record(index, split, size, shapes))
        self.annotations = AnnotationTable.of(records)

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be this data set, or None."""
        return None if str(path) == "shapes" else "the name 'shapes'"

    @classmethod
    def open(cls, path: Path, split: str) -> ShapesDataset:
        """Return 4,000 images for ``train``, 200 for ``val``."""
        return cls(*choose_split(path, split, {"train": ("train", 4000), "val": ("val", 200)}))

    def image(self, index: int) -> Tensor:
        return torch.from_numpy(self._images[index]).permute(2, 0, 1)


def draw_scene(rng: Generator, size: int, max_objects: int) -> list[Shape]:
    """Return 1 to ``max_objects`` random objects inside a square image, large ones first.

    An object that would hide another one, or blend into it, is drawn again.
    """
    shapes: list[Shape] = []
    for _ in range(rng.integers(1, max_objects + 1)):
        shape = _draw_shape(rng, size, shapes)
        while any(_is_ambiguous(shape, other) for other in shapes):
            shape = _draw_shape(rng, size, shapes)
        shapes.append(shape)
    return sorted(shapes, key=lambda shape: -shape.box[2] * shape.box[3])


def _draw_shape(rng: Generator, size: int, shapes: Sequence[Shape]) -> Shape:
    width, height = size * np.exp(rng.uniform(np.log(0.15), np.log(0.6))) * np.exp(rng.uniform(-0.25, 0.25, size=2))
    if shapes and rng.random() < 0.35:
        x, y, w, h = shapes[int(rng.integers(len(shapes)))].box
        centre = np.array([x + w / 2, y + h / 2])
    else:
        centre = rng.uniform(0, size, size=2)
    centre = np.clip(centre, (width / 2, height / 2), (size - width / 2, size - height / 2))
    box = (float(centre[0] - width / 2), float(centre[1] - height / 2), float(width), float(height))
    red, green, blue = (int(channel) for channel in rng.permutation([*rng.choice(_VIVID, 2), rng.integers(256)]))
    return Shape(int(rng.integers(len(CLASS_NAMES))), box, (red, green, blue), int(rng.integers(4)))


def _is_ambiguous(shape: Shape, other: Shape) -> bool:
    """Return whether one of two objects cannot be seen: they overlap with similar colours, or cover the same area."""
    (x1, y1, w1, h1), (x2, y2, w2, h2) = shape.box, other.box
    overlap_x = max(min(x1 + w1, x2 + w2) - max(x1, x2), 0)
    overlap_y = max(min(y1 + h1, y2 + h2) - max(y1, y2), 0)
    shared = overlap_x * overlap_y
    contrast = max(abs(a - b) for a, b in zip(shape.colour, other.colour, strict=True))
    return shared > 0.6 * max(w1 * h1, w2 * h2) or (shared > 0 and contrast < 80)


def render(rng: Generator, size: int, shapes: Sequence[Shape]) -> NDArray[np.uint8]:
    """Return shapes drawn on a textured background, (size, size, 3) RGB."""
    fine = size * _SUPERSAMPLING
    image = Image.fromarray(_texture(rng, size)).resize((fine, fine), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        _draw(pen, shape)
    drawn = np.asarray(image.reduce(_SUPERSAMPLING), dtype=np.float32)
    return (drawn + rng.normal(0, 6, drawn.shape)).clip(0, 255).astype(np.uint8)


def _texture(rng: Generator, size: int) -> NDArray[np.uint8]:
    """Return smooth, muted colours with stripes of random direction and width, (size, size, 3)."""
    coarse = rng.uniform(70, 186, (4, 4, 3)).astype(np.uint8)
    background = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 24)
    rows, columns = np.mgrid[:size, :size]
    stripes = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * (2 * np.pi / period))
    return (background + rng.uniform(0, 30) * stripes[..., None]).clip(0, 255).astype(np.uint8)


def _draw(pen: ImageDraw.ImageDraw, shape: Shape) -> None:
    x, y, w, h = (side * _SUPERSAMPLING for side in shape.box)
    if shape.label == 0:
        pen.ellipse((x, y, x + w, y + h), fill=shape.colour)
    elif shape.label == 1:
        pen.rectangle((x, y, x + w, y + h), fill=shape.colour)
    else:
        corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
        middles = [(x + w / 2, y + h), (x, y + h / 2), (x + w / 2, y), (x + w, y + h / 2)]
        side = shape.direction
        pen.polygon([corners[side], corners[(side + 1) % 4], middles[side]], fill=shape.colour)


def _record(index: int, split: str, size: int, shapes: Sequence[Shape]) -> ImageRecord:
    boxes = np.array([shape.box for shape in shapes], dtype=np.float32)
    return ImageRecord(
        image_id=index + 1,
        file_name=f"shapes_{split}_{index:05d}.png",
        height=size,
        width=size,
        boxes=boxes,
        labels=np.array([shape.label for shape in shapes], dtype=np.int64),
        areas=boxes[:, 2] * boxes[:, 3],
        crowd=np.zeros(len(shapes), dtype=np.bool_),
    )

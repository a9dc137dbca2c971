"""Preview pages: images with their annotations, and training samples after augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert

from anchordetr.console import printable
from anchordetr.data.dataset import ImageRecord
from anchordetr.data.doctor.report import SplitReport
from anchordetr.data.images import load_image
from anchordetr.data.layouts.validation import to_table
from anchordetr.data.loader import TrainSamples
from anchordetr.drawing import draw_boxes
from anchordetr.types import Target

_TILE = 320  # pixels of the longer side
_SPACE = 4  # pixels between tiles
_COLUMNS = 4
_ROWS = 3


def sample_page(splits: Sequence[SplitReport]) -> Image.Image | None:
    """Return a page of up to twelve images with boxes and class names, or None if no image can be read.

    Images with findings come first, then evenly spaced samples of the others.
    """
    count = _COLUMNS * _ROWS
    tiles = []
    for split in splits[:count]:
        table = to_table(split.raw)
        tiles += [_tile(split, table[row], row) for row in chosen_rows(split, max(count // len(splits), 1))]
    return _grid(tiles) if tiles else None


def augmentation_page(samples: TrainSamples, class_names: Sequence[str]) -> Image.Image | None:
    """Return a page with three images as training sees them in four epochs; None if the data set has no image.

    The images are evenly spaced among those with objects, or among all.

    Raises:
        InputError: an image cannot be read.
    """
    counts = np.diff(samples.dataset.annotations.starts)
    rows = np.flatnonzero(counts) if counts.any() else np.arange(len(counts))
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(_ROWS, len(rows))).round().astype(int))]
    keys = [(epoch, epoch, int(row)) for row in chosen for epoch in range(_COLUMNS)]
    tiles = [_augmented(*samples[key][:2], class_names) for key in keys]
    return _grid(tiles) if tiles else None


def _augmented(pixels: Tensor, target: Target, class_names: Sequence[str]) -> Image.Image:
    """Return a training sample before its normalisation, annotated."""
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    boxes = box_convert(target.boxes, "cxcywh", "xyxy").numpy() * (*image.size, *image.size)
    return _annotated(image, boxes, target.labels.numpy(), class_names)


def chosen_rows(split: SplitReport, count: int) -> list[int]:
    """Return up to ``count`` rows of readable images: at most half with findings, and evenly spaced others."""
    readable = [row for row, image in enumerate(split.images) if image.error is None]
    suspects = dict.fromkeys(row for finding in split.findings for row in finding.images)
    first = [row for row in suspects if split.images[row].error is None][: count // 2]
    others = sorted(set(readable) - set(first))
    evenly = np.linspace(0, len(others) - 1, min(count - len(first), len(others))).round().astype(int)
    return [*first, *(others[position] for position in evenly)]


def _tile(split: SplitReport, record: ImageRecord, row: int) -> Image.Image:
    """Return one annotated image."""
    corners = record.boxes.copy()
    corners[:, 2:] += corners[:, :2]
    image = Image.fromarray(load_image(split.raw.path(row)))
    return _annotated(image, corners, record.labels, split.raw.class_names)


def _annotated(
    image: Image.Image, boxes: NDArray[np.floating], labels: NDArray[np.int64], class_names: Sequence[str]
) -> Image.Image:
    """Return an image resized to a tile, with its boxes (n, 4) x1, y1, x2, y2 and the names of their classes."""
    scale = _TILE / max(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)
    draw_boxes(small, boxes * scale, [printable(class_names[label]) for label in labels], labels)
    return small


def _grid(tiles: Sequence[Image.Image]) -> Image.Image:
    """Return a white page with the tiles in rows of four."""
    step = _TILE + _SPACE
    page = Image.new("RGB", (_COLUMNS * step + _SPACE, math.ceil(len(tiles) / _COLUMNS) * step + _SPACE), "white")
    for position, tile in enumerate(tiles):
        page.paste(tile, (position % _COLUMNS * step + _SPACE, position // _COLUMNS * step + _SPACE))
    return page

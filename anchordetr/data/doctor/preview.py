"""A preview page: sample images with their annotations drawn on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2 import functional as tvf
from torchvision.utils import draw_bounding_boxes, make_grid

from anchordetr.console import printable
from anchordetr.data.dataset import ImageRecord
from anchordetr.data.doctor.report import SplitReport
from anchordetr.data.images import load_image
from anchordetr.data.layouts.validation import to_table
from anchordetr.data.transforms import as_tensor
from anchordetr.detections import PALETTE

_TILE = 320  # pixels of the longer side
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
    if not tiles:
        return None
    page = make_grid(tiles, nrow=_COLUMNS, padding=4, pad_value=255)
    return Image.fromarray(page.permute(1, 2, 0).numpy())


def chosen_rows(split: SplitReport, count: int) -> list[int]:
    """Return up to ``count`` rows of readable images: at most half with findings, and evenly spaced others."""
    readable = [row for row, image in enumerate(split.images) if image.error is None]
    suspects = dict.fromkeys(row for finding in split.findings for row in finding.images)
    first = [row for row in suspects if split.images[row].error is None][: count // 2]
    others = sorted(set(readable) - set(first))
    evenly = np.linspace(0, len(others) - 1, min(count - len(first), len(others))).round().astype(int)
    return [*first, *(others[position] for position in evenly)]


def _tile(split: SplitReport, record: ImageRecord, row: int) -> Tensor:
    """Return one annotated image (3, tile, tile), padded with white to a square."""
    image = as_tensor(load_image(split.raw.path(row)))
    height, width = image.shape[1:]
    scale = _TILE / max(height, width)
    size = [max(round(height * scale), 1), max(round(width * scale), 1)]
    small = tvf.resize(image, size, antialias=True)
    if len(record.boxes):
        corners = box_convert(torch.from_numpy(record.boxes), "xywh", "xyxy") * scale
        names = [printable(split.raw.class_names[label]) for label in record.labels]
        colours = [PALETTE[label % len(PALETTE)] for label in record.labels]
        small = draw_bounding_boxes(small, corners, names, colours, width=2)
    return tvf.pad(small, [0, 0, _TILE - size[1], _TILE - size[0]], fill=255)

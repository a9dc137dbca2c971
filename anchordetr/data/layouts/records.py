"""The raw annotations of a split from one record for each image, which is the shortest way for a layout of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anchordetr.data.findings import Finding
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.raw import NO_ID, UNKNOWN_SIZE, RawSplit


class LabelledBox(NamedTuple):
    """One annotation.

    Attributes:
        category: the data set's own id of the class.
        box: x, y, w, h in pixels of the upright image; NaN if a number is missing.
        name: the annotation's name in messages, such as ``labels.csv line 3``.
        crowd: whether the box covers a group of objects; it is no target, and the evaluation ignores it.
    """

    category: int
    box: tuple[float, float, float, float]
    name: str
    crowd: bool = False


class LabelledImage(NamedTuple):
    """One image: its file relative to the folder of images, its annotations, and height and width if they are known."""

    file_name: str
    boxes: Sequence[LabelledBox]
    size: tuple[int, int] = UNKNOWN_SIZE


def raw_split(
    source: Path,
    root: Path,
    classes: Mapping[int, str],
    images: Sequence[LabelledImage],
    notes: Sequence[str] = (),
    findings: Sequence[Finding] = (),
) -> RawSplit:
    """Return the raw annotations of a split whose images have the ids 1, 2, ...

    Sizes that are unknown are read from the headers of the images.

    Args:
        source: annotation file or folder, for messages.
        root: the folder that file names are relative to.
        classes: the name of each category id; the same ones for all splits.
        images: all images of the split, also those without objects.
        notes, findings: what was noticed, see :class:`~anchordetr.data.layouts.raw.RawSplit`.
    """
    sizes = np.array([image.size for image in images], dtype=np.int64).reshape(-1, 2)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1)).tolist()
    sizes[unknown] = read_sizes([root / images[row].file_name for row in unknown])
    boxes = [box for image in images for box in image.boxes]
    image_ids = np.arange(1, len(images) + 1)
    return RawSplit(
        source=source,
        root=root,
        class_names=[classes[category] for category in sorted(classes)],
        category_ids=sorted(classes),
        image_ids=image_ids,
        file_names=[image.file_name for image in images],
        sizes=sizes,
        box_ids=np.full(len(boxes), NO_ID),
        box_names=[box.name for box in boxes],
        box_image_ids=np.repeat(image_ids, [len(image.boxes) for image in images]),
        boxes=np.array([box.box for box in boxes], dtype=np.float64).reshape(-1, 4),
        box_categories=np.array([box.category for box in boxes], dtype=np.int64),
        areas=np.full(len(boxes), np.nan),
        crowd=np.array([box.crowd for box in boxes], dtype=np.bool_),
        notes=tuple(notes),
        findings=tuple(findings),
    )

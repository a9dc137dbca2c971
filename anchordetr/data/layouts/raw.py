"""The raw annotations of a split, as read from its files, before validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.findings import Finding
from anchordetr.data.ids import id_array

NO_ID = -1
UNKNOWN_SIZE = (0, 0)


@dataclass(frozen=True)
class RawSplit:
    """The raw annotations of one split as columns: I images, T annotations. References are not resolved or checked.

    Arrays of ids are int64, or Python integers where an id needs more (see :func:`~anchordetr.data.ids.id_array`).

    Attributes:
        source: annotation file or folder, for messages. root: the folder that ``file_names`` are relative to.
        class_names, category_ids: name and the data set's own id of each class index, sorted by id.
        image_ids: (I,). file_names: (I,).
        sizes: (I, 2) height and width in pixels of the upright images, 0 where unknown.
        box_ids: (T,) annotation ids, ``NO_ID`` where the file has none. box_names: (T,) names for messages.
        box_image_ids: (T,) image id of each annotation.
        boxes: (T, 4) x, y, w, h in pixels, NaN where the value is not a number.
        box_categories: (T,) category ids. areas: (T,) pixels², NaN where missing. crowd: (T,).
        notes: what the reader skipped or assumed, one sentence each.
        findings: problems that the reader found in the folder; they name no rows.
    """

    source: Path
    root: Path
    class_names: list[str]
    category_ids: list[int]
    image_ids: NDArray[Any]
    file_names: list[str]
    sizes: NDArray[np.int64]
    box_ids: NDArray[Any]
    box_names: list[str]
    box_image_ids: NDArray[Any]
    boxes: NDArray[np.float64]
    box_categories: NDArray[Any]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @cached_property
    def image_rows(self) -> NDArray[np.int64]:
        """The row of each annotation's image, (T,); -1 where its id is not listed."""
        return _rows_of(self.image_ids, self.box_image_ids)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class index of each annotation, (T,); -1 where its category is not listed."""
        return _rows_of(id_array(self.category_ids), self.box_categories)

    def path(self, row: int) -> Path:
        """Return the file of an image."""
        return self.root / self.file_names[row]

    def select(self, images: NDArray[np.int64], boxes: NDArray[np.int64]) -> RawSplit:
        """Return the split with only the given rows of images and of annotations."""
        return replace(
            self,
            image_ids=self.image_ids[images],
            file_names=[self.file_names[row] for row in images],
            sizes=self.sizes[images],
            box_ids=self.box_ids[boxes],
            box_names=[self.box_names[row] for row in boxes],
            box_image_ids=self.box_image_ids[boxes],
            boxes=self.boxes[boxes],
            box_categories=self.box_categories[boxes],
            areas=self.areas[boxes],
            crowd=self.crowd[boxes],
        )

    def without_images(self, rows: NDArray[np.int64]) -> RawSplit:
        """Return the split without the given images and their annotations."""
        images = np.setdiff1d(np.arange(len(self.file_names)), rows)
        return self.select(images, np.flatnonzero(~np.isin(self.image_rows, rows)))


def _rows_of(ids: NDArray[Any], references: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position in ``ids`` of each referenced id, -1 where it is missing."""
    if len(ids) == 0:
        return np.full(len(references), -1, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    found = order[np.searchsorted(ids, references, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[found] == references, found, -1)

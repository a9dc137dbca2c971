"""Raw annotations: references to images and categories, and selection of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anchordetr.data.layouts.coco import CocoDataset
from anchordetr.data.layouts.raw import RawSplit


@pytest.fixture
def split(coco_folder: Path) -> RawSplit:
    return CocoDataset.read(coco_folder, "val")


def test_references_are_resolved_to_rows(split: RawSplit) -> None:
    np.testing.assert_array_equal(split.image_ids[split.image_rows], split.box_image_ids)
    np.testing.assert_array_equal(np.array(split.category_ids)[split.labels], split.box_categories)


def test_unlisted_references_are_minus_one(split: RawSplit) -> None:
    without = split.select(np.arange(2), np.arange(len(split.boxes)))
    listed = np.isin(split.box_image_ids, split.image_ids[:2])
    np.testing.assert_array_equal(without.image_rows >= 0, listed)
    no_images = split.select(np.arange(0), np.arange(len(split.boxes)))
    assert (no_images.image_rows == -1).all()


def test_removed_images_take_their_annotations_with_them(split: RawSplit) -> None:
    without = split.without_images(np.array([1]))
    assert without.file_names == [name for row, name in enumerate(split.file_names) if row != 1]
    kept = np.flatnonzero(split.image_rows != 1)
    assert 0 < len(kept) < len(split.boxes)
    np.testing.assert_array_equal(without.boxes, split.boxes[kept])
    assert without.box_names == [split.box_names[row] for row in kept]
    assert without.path(0) == split.path(0)

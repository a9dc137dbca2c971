"""Boxes of segmentations, against pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks

from anchordetr.data.layouts.segmentation import box_of_segmentation


@pytest.mark.parametrize("density", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (13, 7), (300, 200)])
def test_the_box_of_a_mask_is_that_of_pycocotools(size: tuple[int, int], density: float) -> None:
    rng = np.random.default_rng(0)
    drawn = (rng.random(size) < density).astype(np.uint8)
    pixels = drawn.flatten(order="F")
    borders = np.flatnonzero(np.diff(pixels, prepend=0)) if pixels.any() else np.zeros(0, np.int64)
    counts = np.diff([0, *borders, len(pixels)]).tolist()
    compressed = masks.encode(np.asfortranarray(drawn))
    text = {"size": list(size), "counts": compressed["counts"].decode()}
    expected = masks.toBbox(compressed).tolist() if pixels.any() else [0, 0, 0, 0]
    assert box_of_segmentation(text) == tuple(expected)
    assert box_of_segmentation({"size": list(size), "counts": counts}) == tuple(expected)


def test_a_run_that_goes_on_in_the_next_column_fills_the_height() -> None:
    assert box_of_segmentation({"size": [5, 4], "counts": [4, 2, 14]}) == (0, 0, 2, 5)


def test_the_box_of_polygons_holds_all_of_them() -> None:
    polygons = [[5.5, 6, 15, 6, 15, 26.25], [20, 8, 30, 8, 30, 10]]
    assert box_of_segmentation(polygons) == (5.5, 6, 24.5, 20.25)
    assert box_of_segmentation(polygons[0]) == (5.5, 6, 9.5, 20.25)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [2, 2], "counts": [1, 2]},
        {"size": [2, 2], "counts": [-1, 5]},
        {"size": [0, 2], "counts": []},
        {"size": [2], "counts": [4]},
        {"size": [2, 2]},
        {"size": [2, 2], "counts": "o"},
        {"size": [2, 2], "counts": "o" * 1000},
        {"size": [2, 2], "counts": "\0 ü"},
        {"size": [2**40, 2**40], "counts": [2**80]},
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, True]],
        [[1, 2, 3, 4, 5, 6], 7],
        7,
    ],
    ids=str,
)
def test_anything_else_has_no_box(segmentation: Any) -> None:
    assert box_of_segmentation(segmentation) is None

"""Boxes of COCO's segmentations, for annotations that have no box of their own.

Masks are read here, not by pycocotools: its C code trusts their sizes and lengths.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anchordetr.data.ids import parse_id
from anchordetr.data.layouts.entries import is_coordinate

Box = tuple[float, float, float, float]

_MOST_BITS = 60  # of a run length
_LONGEST_SIDE = 2**31 - 1


def box_of_segmentation(segmentation: Any) -> Box | None:
    """Return x, y, w, h of the smallest box around a segmentation, or None if it is none.

    Args:
        segmentation: a list of polygons (or one polygon) of x, y pairs, or a mask in run-length encoding, compressed or
            not.
    """
    try:
        if isinstance(segmentation, dict):
            return _box_of_mask(segmentation)
        if isinstance(segmentation, list):
            return _box_of_polygons(segmentation if isinstance(segmentation[0], list) else [segmentation])
    except (ValueError, LookupError, TypeError):
        pass
    return None


def _box_of_polygons(polygons: list[Any]) -> Box | None:
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2 or not all(map(is_coordinate, polygon)):
            return None
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return float(min(xs)), float(min(ys)), float(max(xs) - min(xs)), float(max(ys) - min(ys))


def _box_of_mask(mask: dict[str, Any]) -> Box | None:
    height, width = map(parse_id, mask["size"])
    counts = mask["counts"]
    runs = _run_lengths(counts) if isinstance(counts, str) else [parse_id(count) for count in counts]
    if not (0 < height <= _LONGEST_SIDE and 0 < width <= _LONGEST_SIDE) or min(runs) < 0:
        return None
    if sum(runs) != height * width:
        return None
    ends = np.cumsum(runs, dtype=np.int64)
    of_object = np.flatnonzero(np.array(runs)[1::2]) * 2 + 1  # runs alternate between background and object
    if len(of_object) == 0:
        return 0.0, 0.0, 0.0, 0.0
    first, last = ends[of_object - 1], ends[of_object] - 1
    (left, top), (right, bottom) = np.divmod(first, height), np.divmod(last, height)  # pixels go down the columns
    whole = left < right
    low, high = np.where(whole, 0, top).min(), np.where(whole, height - 1, bottom).max()
    return float(left[0]), float(low), float(right[-1] - left[0] + 1), float(high - low + 1)


def _run_lengths(text: str) -> list[int]:
    """Return the run lengths of a compressed mask: groups of 5 bits, differences to the run before last."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > _MOST_BITS:
            raise ValueError("not a compressed mask")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("not a compressed mask")
    return runs

"""Faults for the annotation file of a data set in COCO's layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Content = dict[str, Any]


def corners(content: Content) -> None:
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]


def of_first(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["annotations"][0].update(values)


def of_image(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["images"][1].update(values)

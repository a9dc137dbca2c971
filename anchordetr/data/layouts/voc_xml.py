"""Annotation files of the Pascal VOC layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from anchordetr.data.layouts.entries import is_coordinate
from anchordetr.data.layouts.raw import UNKNOWN_SIZE
from anchordetr.errors import InputError
from anchordetr.files import MEBIBYTE, read_bytes

_LIMIT = 16 * MEBIBYTE
_DEEPEST = 64
_LARGEST_SIDE = 2**31
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)


class VocObject(NamedTuple):
    """One object: class name, x, y, w, h in pixels, the difficult flag, and its name in messages."""

    class_name: str
    box: tuple[float, float, float, float]
    difficult: bool
    name: str


class VocAnnotation(NamedTuple):
    """One annotation file.

    Attributes:
        file_name: the image's name as written, empty if it is missing.
        size: height and width, 0 if they are missing or ``bad_size``.
        bad_size: whether a size is given that no image can have.
    """

    file_name: str
    size: tuple[int, int]
    bad_size: bool
    objects: list[VocObject]


def read_annotation(file: Path, name: str) -> VocAnnotation:
    """Return the content of an annotation file.

    Args:
        name: of the file, in messages about objects.

    Raises:
        InputError: it cannot be parsed, or an object has no name or several boxes; the message names file and object.
    """
    root = _parse(file)
    if root.tag.lower() != "annotation":
        raise InputError(f"{file} is not a valid annotation file: its root is <{root.tag[:40]}>, not <annotation>.")
    given = [root.findtext(f"size/{side}") or "" for side in ("height", "width")]
    size = _size(given)
    objects = [_object(file, element, f"{name} object {n}") for n, element in enumerate(root.iterfind("object"), 1)]
    bad_size = size == UNKNOWN_SIZE and any(text.strip() not in ("", "0") for text in given)
    return VocAnnotation((root.findtext("filename") or "").strip(), size, bad_size, objects)


class _Builder(ElementTree.TreeBuilder):
    """Builds elements without namespaces; refuses deep nesting, and document types, which can define entities."""

    depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> Element:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise InputError(f"its elements are nested more than {_DEEPEST} deep")
        return super().start(tag.rpartition("}")[2], attributes)

    def end(self, tag: str) -> Element:
        self.depth -= 1
        return super().end(tag.rpartition("}")[2])

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError("it defines a document type, which annotations do not need")


def _parse(file: Path) -> Element:
    content = read_bytes(file, _LIMIT)
    try:
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=_Builder()))
    except Exception as error:  # encodings raise whatever their decoder raises
        raise InputError(f"{file} is not a valid annotation file: {error}.") from error


def _object(file: Path, element: Element, name: str) -> VocObject:
    class_name = (element.findtext("name") or "").strip()
    if not class_name:
        raise InputError(f"{file}: {name} has no class in <name>; write it, or remove the object.")
    for part in ("name", "bndbox"):
        if len(element.findall(part)) > 1:
            raise InputError(f"{file}: {name} has several <{part}>; write one object for each.")
    x1, y1, x2, y2 = (_number(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS)
    difficult = (element.findtext("difficult") or "").strip() == "1"
    return VocObject(class_name, (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1), difficult, name)


def _size(given: list[str]) -> tuple[int, int]:
    height, width = (_number(text) for text in given)
    whole = all(0 < side < _LARGEST_SIDE and side.is_integer() for side in (height, width))
    return (int(height), int(width)) if whole else UNKNOWN_SIZE


def _number(text: str | None) -> float:
    number = float(text) if text and _NUMBER.fullmatch(text) else np.nan
    return number if is_coordinate(number) else np.nan

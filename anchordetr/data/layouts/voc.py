"""The Pascal VOC layout: ``Annotations/*.xml``, ``JPEGImages/`` and image lists in ``ImageSets/Main/``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from anchordetr.data.images import IMAGE_SUFFIXES
from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.raw import NO_ID, UNKNOWN_SIZE, RawSplit
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

_SPLITS = ("train", "val", "test")
_LISTS = Path("ImageSets", "Main")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One object: class name, x, y, w, h in pixels, the difficult flag, and its name in messages."""

    class_name: str
    box: tuple[float, float, float, float]
    difficult: bool
    name: str


@DATA_LAYOUTS.register("voc")
class VocDataset(FolderDataset):
    """A data set in Pascal VOC's layout; its classes are all names in the annotations, sorted, with ids 1, 2, ...

    Corners are 1-based and inclusive, as in VOC. Difficult objects are treated as crowds: they are not targets in
    training, and evaluation ignores them. Image ids are 1, 2, ... in the order of the list.
    """

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""
        if not any((path / "Annotations").glob("*.xml")):
            return "no Annotations/*.xml"
        return None if VocDataset.splits(path) else f"no {_LISTS}/train.txt"

    @classmethod
    def splits(cls, path: Path) -> dict[str, Path]:
        """Return the list file of each split."""
        files = {split: path / _LISTS / f"{split}.txt" for split in _SPLITS}
        return {split: file for split, file in files.items() if file.is_file()}

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: the split or an annotation is missing, or a file is damaged; the message names it.
        """
        file = choose_split(path, split, cls.splits(path))
        stems = [line.split()[0] for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        annotations = {xml.stem: read_xml(xml) for xml in sorted((path / "Annotations").glob("*.xml"))}
        unknown = [stem for stem in stems if stem not in annotations]
        if unknown:
            raise InputError(f"{file} lists {len(unknown)} images without Annotations/*.xml: {', '.join(unknown)}.")
        class_names = sorted({item.class_name for xml in annotations.values() for item in _objects(xml, "")})
        objects = [(row, item) for row, stem in enumerate(stems) for item in _objects(annotations[stem], stem)]
        images = path / "JPEGImages"
        file_names = [_file_name(annotations[stem], stem, images) for stem in stems]
        sizes = np.array([_size(annotations[stem]) for stem in stems], dtype=np.int64).reshape(-1, 2)
        unknown_size = np.flatnonzero((sizes <= 0).any(axis=1))
        sizes[unknown_size] = read_sizes([images / file_names[row] for row in unknown_size])
        difficult = sum(item.difficult for _, item in objects)
        ids = {name: position for position, name in enumerate(class_names, start=1)}
        return RawSplit(
            source=file,
            root=images,
            class_names=class_names,
            category_ids=list(ids.values()),
            image_ids=np.arange(1, len(stems) + 1),
            file_names=file_names,
            sizes=sizes,
            box_ids=np.full(len(objects), NO_ID),
            box_names=[item.name for _, item in objects],
            box_image_ids=np.array([row + 1 for row, _ in objects], dtype=np.int64),
            boxes=np.array([item.box for _, item in objects], dtype=np.float64).reshape(-1, 4),
            box_categories=np.array([ids[item.class_name] for _, item in objects], dtype=np.int64),
            areas=np.full(len(objects), np.nan),
            crowd=np.array([item.difficult for _, item in objects], dtype=np.bool_),
            notes=(f"difficult objects, treated as crowds: {difficult}.",) if difficult else (),
        )


class _NoDoctype(ElementTree.TreeBuilder):
    """An XML builder that refuses document types, which can define entities that expand or read other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError("it defines a document type, which annotations do not need")


def read_xml(file: Path) -> Element:
    """Return the root of an annotation file.

    Raises:
        InputError: it cannot be parsed; the message names the file and the position.
    """
    try:
        return ElementTree.fromstring(file.read_bytes(), ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, InputError, LookupError, ValueError) as error:
        raise InputError(f"{file} is not a valid annotation file: {error}") from error


def _objects(root: Element, stem: str) -> Iterator[VocObject]:
    for number, element in enumerate(root.iterfind("object"), start=1):
        corners = [_number(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        x1, y1, x2, y2 = corners
        name = f"{stem}.xml object {number}"
        difficult = (element.findtext("difficult") or "").strip() == "1"
        box = (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1)
        yield VocObject((element.findtext("name") or "").strip(), box, difficult, name)


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return np.nan


def _size(root: Element) -> tuple[int, int]:
    height, width = (_number(root.findtext(f"size/{side}")) for side in ("height", "width"))
    return (int(height), int(width)) if np.isfinite([height, width]).all() else UNKNOWN_SIZE


def _file_name(root: Element, stem: str, images: Path) -> str:
    """Return the image named in an annotation, or else the image with the same stem."""
    named = root.findtext("filename") or ""
    candidates = [named, *(stem + suffix for suffix in (*IMAGE_SUFFIXES, ".JPG", ".PNG"))]
    return next((name for name in candidates if name and (images / name).is_file()), named or f"{stem}.jpg")

"""The YOLO layout: ``data.yaml`` with classes and image folders, and ``labels/*.txt`` beside ``images/``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from anchordetr.data.images import IMAGE_SUFFIXES
from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.raw import NO_ID, RawSplit
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

_SPLITS = ("train", "val", "test")
_LARGEST_FRACTION = 2.0  # larger numbers are pixels, not rounding errors


class Label(NamedTuple):
    """One line of a label file: category, x, y, w, h as fractions of the image, and its name in messages."""

    category: int
    box: tuple[float, float, float, float]
    name: str


@DATA_LAYOUTS.register("yolo")
class YoloDataset(FolderDataset):
    """A data set in YOLO's layout with the class ids of ``data.yaml``.

    A label is ``class cx cy w h`` or a polygon ``class x1 y1 x2 y2 ...``, of which the bounding box is used, in
    fractions of the upright image. An image without a label file has no objects. Image ids are 1, 2, ... in the order
    of the file names.
    """

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""
        return None if (path / "data.yaml").is_file() else "no data.yaml"

    @classmethod
    def splits(cls, path: Path) -> dict[str, list[str]]:
        """Return the image folders or list files of each split."""
        settings = _read_settings(path / "data.yaml")
        entries = {split: settings[split] for split in _SPLITS if settings.get(split)}
        return {split: [str(part) for part in _as_list(entry)] for split, entry in entries.items()}

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: ``data.yaml``, a folder or a label file is missing or damaged; the message names file and line.
        """
        settings = _read_settings(path / "data.yaml")
        root = path / str(settings.get("path") or "")
        entries = choose_split(path, split, cls.splits(path))
        images = [image for entry in entries for image in _images_of(entry, path, root)]
        label_files = [label_file(image, path) for image in images]
        labels = [(row, label) for row, file in enumerate(label_files) for label in _read_labels(file, path)]
        unlabelled = [file for file in label_files if not file.is_file()]
        if images and len(unlabelled) == len(images):
            raise InputError(f"{path} has no label file for any image of '{split}'; expected {label_files[0]}.")
        names = _class_names(settings, path / "data.yaml")
        sizes = read_sizes(images)
        rows = np.array([row for row, _ in labels], dtype=np.int64)
        fractions = np.array([label.box for _, label in labels], dtype=np.float64).reshape(-1, 4)
        note = f"images without a label file, used as images without objects: {len(unlabelled)}."
        return RawSplit(
            source=path / "data.yaml",
            root=path,
            class_names=list(names.values()),
            category_ids=list(names),
            image_ids=np.arange(1, len(images) + 1),
            file_names=[_relative(image, path) for image in images],
            sizes=sizes,
            box_ids=np.full(len(labels), NO_ID),
            box_names=[label.name for _, label in labels],
            box_image_ids=rows + 1,
            boxes=fractions * np.tile(sizes[rows][:, ::-1], 2),
            box_categories=np.array([label.category for _, label in labels], dtype=np.int64),
            areas=np.full(len(labels), np.nan),
            crowd=np.zeros(len(labels), dtype=np.bool_),
            notes=(note,) if unlabelled else (),
        )


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file} must contain 'names', 'train' and 'val'.")
    return settings


def _class_names(settings: dict[str, Any], file: Path) -> dict[int, str]:
    """Return the name of each class id, sorted by id."""
    names = settings.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(key, int) for key in names):
        raise InputError(f"{file} needs 'names': a list of class names, or one name for each class id.")
    if len({str(name) for name in names.values()}) < len(names):
        raise InputError(
            f"{file} gives one name to several classes: {', '.join(str(name) for name in names.values())}."
        )
    return {key: str(names[key]) for key in sorted(names)}


def _images_of(entry: str, path: Path, root: Path) -> list[Path]:
    """Return the images of a folder or of a list file, sorted."""
    source = _resolve(entry, [root, path])
    if source is None:
        raise InputError(f"{path / 'data.yaml'} names '{entry}', which is not in {root}; correct the entry.")
    if source.is_dir():
        return sorted(file for file in source.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    lines = source.read_text(encoding="utf-8-sig").splitlines()
    listed = [line.strip() for line in lines if line.strip()]
    return sorted(_resolve(line, [root, path, source.parent]) or path / line for line in listed)


def _resolve(entry: str, folders: list[Path]) -> Path | None:
    """Return the first existing path of an entry; Roboflow writes ``../train/images`` for ``train/images``."""
    spellings = [entry, entry.removeprefix("../")]
    candidates = [folder / spelling for spelling in spellings for folder in folders]
    return next((path for path in candidates if path.exists()), None)


def label_file(image: Path, path: Path) -> Path:
    """Return the label file of an image: the last folder ``images`` below ``path`` is replaced by ``labels``."""
    parts = list(image.parts)
    first = len(path.parts) if image.is_relative_to(path) else 0
    for position in range(len(parts) - 2, first - 1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _read_labels(file: Path, path: Path) -> Iterator[Label]:
    if not file.is_file():
        return
    name = _relative(file, path)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not a text file: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            category, box = _parse(line.split(), f"{file} line {number}")
            yield Label(category, box, f"{name} line {number}")


def _parse(words: list[str], line: str) -> tuple[int, tuple[float, float, float, float]]:
    """Return category and x, y, w, h of ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 ...``."""
    try:
        category, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise InputError(f"{line}: expected a class id and numbers; got '{' '.join(words)[:60]}'.") from None
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise InputError(f"{line}: expected 'class cx cy w h' or a polygon; got {len(words)} values.")
    if max(abs(number) for number in numbers) > _LARGEST_FRACTION:
        raise InputError(f"{line}: coordinates must be fractions of the image, not pixels; got {max(numbers):g}.")
    if len(numbers) == 4:
        cx, cy, w, h = numbers
        return category, (cx - w / 2, cy - h / 2, w, h)
    xs, ys = numbers[::2], numbers[1::2]
    return category, (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def _relative(file: Path, path: Path) -> str:
    return str(file.relative_to(path) if file.is_relative_to(path) else file)


def _as_list(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]

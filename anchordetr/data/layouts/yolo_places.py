"""Where data sets in the YOLO layout say what they are: ``data.yaml``, ``obj.data``, or class names beside labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from anchordetr.data.images import IMAGE_SUFFIXES
from anchordetr.data.layouts.places import find_place
from anchordetr.data.layouts.yolo_images import label_file
from anchordetr.data.layouts.yolo_settings import SPLITS, YoloSettings, class_names, read_settings
from anchordetr.errors import InputError
from anchordetr.files import MEBIBYTE, is_hidden, list_files, list_folders, read_text

_YAML = (".yaml", ".yml")
_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES = ("classes.txt", "obj.names", "*.names", "labels/classes.txt", "*/_darknet.labels", "*/classes.txt")
_LIMIT = 4 * MEBIBYTE


def settings_file(path: Path) -> Path | None:
    """Return the YAML file of a data set: ``path`` itself, or the one in the folder ``path``."""
    if path.suffix.lower() in _YAML and path.is_file():
        return path
    return next((path / name for name in _FILES if (path / name).is_file()), None)


def find_settings(path: Path) -> YoloSettings | None:
    """Return what the data set's YAML file, ``obj.data`` or class names and folders say, or None without any.

    Raises:
        InputError: a file cannot be read, or has no usable names.
    """
    if file := settings_file(path):
        return read_settings(file)
    if path.is_dir():
        darknet = (found for file in list_files(path, (".data",)) if (found := _darknet(file)) is not None)
        return next(darknet, None) or _by_names(path)
    return _darknet(path) if path.suffix.lower() == ".data" and path.is_file() else None


def _darknet(file: Path) -> YoloSettings | None:
    """Return the content of ``obj.data``: lines ``train = ...``, ``names = ...``; None if it has none."""
    try:
        lines = read_text(file, _LIMIT).splitlines()
    except InputError:
        return None
    pairs = (line.partition("=") for line in lines if "\0" not in line)
    values = {key.strip(): value.strip() for key, separator, value in pairs if separator and value.strip()}
    splits = {split: [values[split]] for split in SPLITS if split in values}
    if not splits or "names" not in values:
        return None
    place = find_place(values["names"], [file.parent], file.parent)
    if place is None:
        raise InputError(f"{file} names '{values['names'][:200]}', which is not in {file.parent}; correct the entry.")
    return _settings(file, file.parent, place.path, splits)


def _by_names(folder: Path) -> YoloSettings | None:
    """Return settings from a list of class names, if there are labels too."""
    found = (file for pattern in _NAMES for file in sorted(folder.glob(pattern)))
    names = next((file for file in found if file.is_file() and not is_hidden(file.parent.name)), None)
    splits = {} if names is None else _splits(folder)
    if names is None or not any(_has_labels(folder, entry) for (entry,) in splits.values()):
        return None
    return _settings(names, folder, names, splits)


def _settings(file: Path, folder: Path, names: Path, splits: Mapping[str, list[str]]) -> YoloSettings:
    listed = [line.strip() for line in read_text(names, _LIMIT).rstrip().splitlines()]
    return YoloSettings(
        file=file,
        folder=folder,
        root=folder,
        names=class_names(listed, names),
        splits=dict(splits),
        task="",
        columns=None,
        notes=(),
    )


def _splits(folder: Path) -> dict[str, list[str]]:
    """Return the lists ``train.txt``, ..., or else the folders ``images/train``, ``train``, ..., or else all images."""
    lists = {split: [f"{split}.txt"] for split in SPLITS if (folder / f"{split}.txt").is_file()}
    if lists:
        return lists
    for parent in (folder / "images", folder):
        names = [entry.name for entry in list_folders(parent)] if parent.is_dir() else []
        if found := {
            name: [str(Path(parent.name if parent != folder else "", name))] for name in names if name in SPLITS
        }:
            return found
    return {"train": ["images" if (folder / "images").is_dir() else "."]}


def _has_labels(folder: Path, entry: str) -> bool:
    place = folder / entry
    if place.is_file():
        return True
    return any(os.path.isfile(label_file(image, folder)) for image in list_files(place, IMAGE_SUFFIXES, recursive=True))

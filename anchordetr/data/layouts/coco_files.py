"""COCO annotation files of a data set, which many tools name in many ways."""

from __future__ import annotations

import re
from pathlib import Path

from anchordetr.files import MEBIBYTE, is_hidden, list_files, list_folders

ROBOFLOW = "_annotations.coco.json"
_ANNOTATIONS = "annotations"
_PREFIX = "instances_"
_LISTS = (b'"images"', b'"annotations"', b'"categories"')
_SPLIT = re.compile(r"(?:^|[^a-z])(train|val|test)(?:id|idation|ing)?(?![a-z])")
_PIECE = 16 * MEBIBYTE
_OVERLAP = 32  # bytes, longer than the names of the lists


def is_json(path: Path) -> bool:
    """Return whether a path is a file that ends in ``.json``."""
    return path.suffix.lower() == ".json" and path.is_file()


def instance_files(path: Path) -> list[Path]:
    """Return the files ``annotations/instances_*.json`` of a data set."""
    return sorted((path / _ANNOTATIONS).glob(f"{_PREFIX}*.json"))


def annotation_files(path: Path) -> dict[str, Path]:
    """Return the annotation file of each split, whatever its name; none if there is no annotation file.

    They are ``path`` itself, or those in ``annotations/``, or those in ``path``. The only file is the split ``train``,
    unless its name says otherwise.
    """
    if is_json(path):
        return _by_split([path])
    files = instance_files(path) or _coco_files(path / _ANNOTATIONS) or _coco_files(path)
    return _by_split(files)


def roboflow_files(path: Path) -> list[Path]:
    """Return the files ``_annotations.coco.json`` of the folders of ``path``."""
    return sorted(file for file in path.glob(f"*/{ROBOFLOW}") if not is_hidden(file.parent.name) and file.is_file())


def files_in_folders(path: Path) -> list[Path]:
    """Return the annotation file of each folder of ``path``: Roboflow's, or else the only one."""
    files = roboflow_files(path)
    if files or not path.is_dir():
        return files
    found = [_coco_files(folder) for folder in list_folders(path) if folder.name != _ANNOTATIONS]
    return [file for (file, *more) in filter(None, found) if not more]


def data_folder(path: Path) -> Path:
    """Return the folder of a data set, which an annotation file may stand for."""
    if not is_json(path):
        return path
    return path.parent.parent if path.parent.name == _ANNOTATIONS else path.parent


def folder_name(file: Path) -> str:
    """Return the name that the image folder of an annotation file may have."""
    return file.stem.removeprefix(_PREFIX)


def _by_split(files: list[Path]) -> dict[str, Path]:
    """Return files by the words for splits in their names; by their names if those do not tell them apart."""
    names = [folder_name(file) for file in files]
    words = [match[1] if (match := _SPLIT.search(name.lower())) else "" for name in names]
    if words == [""]:
        return {"train": files[0]}
    is_told = all(words) and len(set(words)) == len(words) and not any(file.stem.startswith(_PREFIX) for file in files)
    return dict(zip(words if is_told else names, files, strict=True))


def _coco_files(folder: Path) -> list[Path]:
    return [file for file in list_files(folder, (".json",)) if _is_coco(file)] if folder.is_dir() else []


def _is_coco(file: Path) -> bool:
    """Return whether a file has the names of COCO's three lists; it need not be valid JSON."""
    missing, end = set(_LISTS), b""
    try:
        with file.open("rb") as stream:
            while missing and (piece := stream.read(_PIECE)):
                missing = {name for name in missing if name not in end + piece}
                end = piece[-_OVERLAP:]
    except OSError:
        return True  # reading it says why it cannot be read
    return not missing

"""Files of the Pascal VOC layout: lists of images, and which image belongs to which annotation.

A key is the path of an annotation or image below its folder, without suffix: ``photo (1)`` of ``photo (1).xml``.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from anchordetr.data.findings import Finding
from anchordetr.data.images import IMAGE_SUFFIXES, UNREADABLE_IMAGE_SUFFIXES
from anchordetr.errors import InputError, listed
from anchordetr.files import MEBIBYTE, list_files, read_text

SPLITS = ("train", "val", "valid", "validation", "test")
LISTS = Path("ImageSets", "Main")
_ANNOTATIONS = ("Annotations", "annotations", "labels")
_IMAGES = ("JPEGImages", "images", "Images")
_ALL_SUFFIXES = (*IMAGE_SUFFIXES, *UNREADABLE_IMAGE_SUFFIXES)
_NAMED_SUFFIXES = (*_ALL_SUFFIXES, ".xml")
_LIST_LIMIT = 256 * MEBIBYTE
_MOST_NAMED = 100
_FLAG = re.compile(r"\s+(-1|0|1)$")  # of the lists of one class: absent, difficult, present


@dataclass(frozen=True)
class VocImages:
    """The images of annotations, by key.

    Attributes:
        names: the image of each annotation that has one, relative to the folder of images.
        renamed: the annotations that have an image of their own name, but say the name of another one.
        findings: images without annotation, and those in formats that are not read.
    """

    names: dict[str, str]
    renamed: list[str]
    findings: tuple[Finding, ...]

    def name(self, key: str) -> str:
        """Return the image of an annotation, or a name for messages if it has none."""
        return self.names.get(key, f"{key}.jpg")


@dataclass(frozen=True)
class VocPart:
    """The folders of annotations and images of a split, and the file that lists its images, if there is one.

    Without a list, the split is all annotations.
    """

    annotations: Path
    images: Path
    list_file: Path | None = None

    @property
    def source(self) -> Path:
        """What the split is called in messages."""
        return self.list_file or self.annotations


def find_parts(path: Path) -> dict[str, VocPart]:
    """Return the splits of a data set, none if there are no annotations.

    They are the lists in ``ImageSets/Main``, or else the folders ``train``, ``valid``, ... of annotations and images,
    or else all annotations. Without folders for annotations and images, they are the folders ``train``, ``valid``, ...
    """
    if whole := _folders(path):
        lists = {split: path / LISTS / f"{split}.txt" for split in SPLITS}
        listed = {split: replace(whole, list_file=file) for split, file in lists.items() if file.is_file()}
        both = {split: (whole.annotations / split, whole.images / split) for split in SPLITS}
        of_folders = {split: VocPart(*pair) for split, pair in both.items() if all(map(Path.is_dir, pair))}
        return listed or of_folders or {"train": whole}
    parts = {split: _folders(path / split) for split in SPLITS}
    return {split: part for split, part in parts.items() if part}


def _folders(path: Path) -> VocPart | None:
    """Return where annotations and images are: in folders of their own, or together in ``path``."""
    for name in _ANNOTATIONS:
        if annotation_files(path / name):
            images = next((path / images for images in _IMAGES if (path / images).is_dir()), path / _IMAGES[0])
            return VocPart(path / name, images)
    return VocPart(path, path) if path.is_dir() and list_files(path, (".xml",)) else None


def annotation_files(folder: Path) -> dict[str, Path]:
    """Return the annotation files below a folder by key, none if the folder does not exist."""
    files = list_files(folder, (".xml",), recursive=True) if folder.is_dir() else []
    return {_key(file.relative_to(folder).as_posix()): file for file in files}


def listed_keys(file: Path, annotations: Container[str]) -> tuple[list[str], list[str]]:
    """Return the annotations that a list names, and the lines that name none.

    A line is a file name with or without its suffix and folder, which may contain spaces; lists of one class have a
    number behind it.

    Raises:
        InputError: the list cannot be read.
    """
    found: list[str] = []
    unknown: list[str] = []
    for line in read_text(file, _LIST_LIMIT).splitlines():
        if text := line.strip():
            spellings = (name for written in (text, _FLAG.sub("", text)) for name in _spellings(written))
            key = next((name for name in spellings if name in annotations), None)
            (found if key else unknown).append(key or text)
    return found, unknown


def require_listed(file: Path, unknown: list[str]) -> None:
    """Check that every line of a list names an annotation.

    Raises:
        InputError: some do not; the message names them.
    """
    if unknown:
        raise InputError(
            f"{file} lists {len(unknown)} images without Annotations/*.xml: {listed(unknown, _MOST_NAMED)}."
        )


def match_images(folder: Path, file_names: Mapping[str, str]) -> VocImages:
    """Return the image of each annotation: the one of its own name, or else the one that its ``<filename>`` says.

    An image that has an annotation of its own name is no other annotation's.

    Args:
        folder: of the images. file_names: the ``<filename>`` of each annotation.

    Raises:
        InputError: the folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist; images belong there.")
    present: dict[str, list[str]] = {}
    for file in sorted(list_files(folder, _ALL_SUFFIXES, recursive=True), key=_rank):
        name = file.relative_to(folder).as_posix()
        present.setdefault(_key(name), []).append(name)
    names: dict[str, str] = {}
    renamed: list[str] = []
    for key, file_name in file_names.items():
        said = next((name for name in _spellings(file_name) if name in present), None)
        if key in present:
            names[key] = next((name for name in present[key] if name == file_name), present[key][0])
            renamed += [key] if said not in (None, key) else []
        elif said is not None and said not in file_names:
            names[key] = present[said][0]
    unused = sorted({name for same in present.values() for name in same}.difference(names.values()))
    unread = [name for name in unused if not is_read(name)]
    unannotated = [name for name in unused if is_read(name)]
    return VocImages(names, renamed, (Finding("unannotated_image", unannotated), Finding("unread_format", unread)))


def is_read(name: str) -> bool:
    """Return whether an image of this name is in a format that is read."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _rank(file: Path) -> int:
    return _ALL_SUFFIXES.index(file.suffix.lower())


def _key(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _spellings(written: str) -> list[str]:
    """Return the keys that a written file name can mean, as written first."""
    path = written.replace("\\", "/").removeprefix("./")
    stem = path[: -len(suffix)] if (suffix := PurePosixPath(path).suffix).lower() in _NAMED_SUFFIXES else path
    return [written, path, stem, path.rpartition("/")[2], stem.rpartition("/")[2]]

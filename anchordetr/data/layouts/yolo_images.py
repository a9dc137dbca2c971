"""The images of a split in the YOLO layout, from folders and list files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from anchordetr.data.findings import Finding
from anchordetr.data.images import IMAGE_SUFFIXES, UNREADABLE_IMAGE_SUFFIXES
from anchordetr.data.layouts.places import Place, find_place
from anchordetr.data.layouts.yolo_settings import YoloSettings
from anchordetr.errors import InputError, listed
from anchordetr.files import MEBIBYTE, list_files, read_text

_LIST_LIMIT = 256 * MEBIBYTE
_RUNS = "runs"  # where this and other libraries put results, images among them


class SplitImages(NamedTuple):
    """The images of a split, sorted, and what was noticed about them."""

    files: list[Path]
    notes: list[str]
    findings: list[Finding]


def find_images(entries: Sequence[str], settings: YoloSettings) -> SplitImages:
    """Return the images of the folders and list files of a split, each once.

    Raises:
        InputError: an entry does not exist, a list file cannot be read, or there is no image.
    """
    folder = settings.folder
    files: list[Path] = []
    notes: list[str] = []
    findings: list[Finding] = []
    for entry in entries:
        place = find_place(entry, [settings.root, folder], folder)
        if place is None:
            raise InputError(
                f"{settings.file} names '{entry[:200]}', which is not in {str(settings.root)[:400]}; correct the entry."
            )
        if place.path == Path(place.path.anchor):
            raise InputError(f"{settings.file} names '{entry}', the root of the disk; name the folder of the images.")
        notes += _origin(entry, place, folder)
        found = _of_folder(place.path, folder) if place.path.is_dir() else _of_list(place.path, settings.root, folder)
        files += found.files
        notes += found.notes
        findings += found.findings
    images = sorted(set(files))
    if not images:
        left_out = "".join(" " + finding.sentence(settings.file) for finding in findings)
        raise InputError(f"{settings.file} names no image ({', '.join(entries)}); check the entry.{left_out}")
    if len(images) < len(files):
        notes.append(f"images that are listed several times, used once: {len(files) - len(images)}.")
    return SplitImages(images, notes, findings)


def label_file(image: Path, folder: Path) -> Path:
    """Return the label file of an image: the last folder ``images`` below ``folder`` is replaced by ``labels``.

    If there is none, it is the one beside the image, as in Darknet's data sets.
    """
    parts = list(image.parts)
    first = len(folder.parts) if image.is_relative_to(folder) else 0
    for position in range(len(parts) - 2, first - 1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    usual, beside = Path(*parts).with_suffix(".txt"), image.with_suffix(".txt")
    is_beside = usual != beside and not os.path.lexists(usual) and os.path.isfile(beside) and _is_label(beside)
    return beside if is_beside else usual


def relative_name(file: Path, folder: Path) -> str:
    """Return a file's name in messages and results: relative to the data set's folder if it is inside."""
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _of_folder(place: Path, folder: Path) -> SplitImages:
    """Return the images below a folder; hidden ones and those of earlier runs are left out."""
    present = list_files(place, (*IMAGE_SUFFIXES, *UNREADABLE_IMAGE_SUFFIXES), recursive=True)
    runs = [image for image in present if _in_runs(image, place)]
    labelled = any(os.path.lexists(label_file(image, folder)) for image in runs)
    left_out = set() if labelled else set(runs)
    unread = [image for image in present if image.suffix.lower() in UNREADABLE_IMAGE_SUFFIXES and image not in left_out]
    files = [image for image in present if image not in left_out.union(unread)]
    notes = [f"images of earlier runs below {place}, left out: {len(left_out)}."] if left_out else []
    return SplitImages(files, notes, _unused(place, folder, unread, {label_file(image, folder) for image in present}))


def _of_list(file: Path, root: Path, folder: Path) -> SplitImages:
    """Return the images of a list file, whether they exist or not.

    Raises:
        InputError: the list cannot be read, or names a folder.
    """
    lines = [line.strip() for line in read_text(file, _LIST_LIMIT).splitlines() if line.strip()]
    places = [find_place(line, [root, folder, file.parent], folder) for line in lines]
    files = [place.path if place else folder / line for line, place in zip(lines, places, strict=True)]
    folders = [line for line, path in zip(lines, files, strict=True) if os.path.isdir(path)]
    if folders:
        raise InputError(f"{file} lists {len(folders)} folders, '{folders[0][:200]}' first; list images.")
    outside = [str(place.path) for place in places if place and not place.inside]
    notes = [f"images of {file} outside of the data set: {len(outside)}, {outside[0]} first."] if outside else []
    shorter = [line for line, place in zip(lines, places, strict=True) if place and place.shortened]
    if shorter:
        notes.append(
            f"images of {file} found without the first folders of their paths: {len(shorter)} ({listed(shorter, 1)})."
        )
    return SplitImages(files, notes, [])


def _unused(place: Path, folder: Path, unread: list[Path], expected: set[Path]) -> list[Finding]:
    """Return the images in formats that are not read, and the label files that belong to no image."""
    labels = label_file(place / "image", folder).parent
    texts = list_files(labels, (".txt",), recursive=True) if labels.is_dir() else []
    orphans = [file for file in texts if file not in expected and not _in_runs(file, labels) and _is_label(file)]
    return [
        Finding("unread_format", [relative_name(image, folder) for image in unread]),
        Finding("orphan_labels", [relative_name(file, folder) for file in orphans]),
    ]


def _is_label(file: Path) -> bool:
    """Return whether a text file without an image looks like labels, unlike ``classes.txt`` and notes."""
    try:
        with file.open("rb") as stream:
            words = stream.readline(4096).split()
    except OSError:
        return True
    return all(word[:1].isdigit() for word in words)


def _in_runs(file: Path, place: Path) -> bool:
    return _RUNS in file.relative_to(place).parts[:-1]


def _origin(entry: str, place: Place, folder: Path) -> list[str]:
    """Return a note if an entry leads out of the data set, or could."""
    if not place.inside:
        return [f"the images of '{entry}' come from {place.path}, outside of the data set."]
    inside = relative_name(place.path, folder)
    if place.shortened:
        return [f"'{entry}' is read as {inside} in the data set."]
    if place.other is not None:
        return [f"'{entry}' is read as {inside} in the data set; {place.other} outside of it is not used."]
    return []

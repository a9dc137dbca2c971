"""The images that files, folders, patterns and addresses stand for."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anchordetr.data.fetch import is_address, shortened
from anchordetr.data.images import IMAGE_SUFFIXES, UNREADABLE_IMAGE_SUFFIXES, ImageSource, is_image_source
from anchordetr.errors import InputError, listed
from anchordetr.files import is_hidden, list_files

_NAMED = 5

log = logging.getLogger("anchordetr")


def several_images(source: ImageSource | Iterable[ImageSource]) -> Iterable[Any] | None:
    """Return the images of a list, another iterable, a folder or a pattern; None for a source of a single image.

    Raises:
        InputError: as :func:`expand_source`.
    """
    if isinstance(source, (str, Path)):
        return None if is_address(source) or Path(source).is_file() else expand_source(source)
    if is_image_source(source) or isinstance(source, Mapping):
        return None
    return source if isinstance(source, Iterable) else None


def expand_sources(sources: Sequence[str | Path]) -> list[str | Path]:
    """Return the images of several sources in the given order, each file or address once.

    Raises:
        InputError: as :func:`expand_source`.
    """
    images = [image for source in sources for image in expand_source(source)]
    once: dict[str | Path, str | Path] = {}
    for image in images:
        once.setdefault(image if is_address(image) else Path(image).absolute(), image)
    return list(once.values())


def expand_source(source: str | Path) -> list[str | Path]:
    """Return the images of a file, folder, glob pattern or web address, sorted.

    A folder stands for the images in it, not for those in its sub-folders; a pattern for the images and the folders
    that it matches. Hidden files and folders are left out, symbolic links are followed. What exists is never read as a
    pattern: in ``sub [2024]/*.jpg`` the brackets are part of the folder's name if there is such a folder. ``**`` stands
    for any number of folders, a leading ``~`` for the home folder.

    Raises:
        InputError: the path does not exist, or a folder or pattern has no images.
    """
    if is_address(source):
        return [source]
    if not str(source):
        raise InputError("The name of an image is empty; give a file, a folder, a pattern or an address.")
    path = Path(source)
    if not os.path.lexists(path):
        path = Path(os.path.expanduser(path))
    if os.path.isdir(path):
        return _readable([path], f"The folder {path} contains")
    if os.path.lexists(path):
        return [path]
    if not glob.has_magic(str(path)):
        raise InputError(f"No such image, folder or pattern: {shortened(str(source))}. Check the path.")
    return _readable(_matches(path), f"The pattern {source} matches")


def _readable(paths: Sequence[Path], subject: str) -> list[str | Path]:
    """Return the images among files and in folders, and name those in formats that are not read."""
    suffixes = {*IMAGE_SUFFIXES, *UNREADABLE_IMAGE_SUFFIXES}
    folders = [path for path in paths if path.is_dir()]
    files = {path for path in paths if not path.is_dir()}
    files.update(file for folder in folders for file in list_files(folder, suffixes))
    images: list[str | Path] = sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)
    unread = sorted(file.name for file in files if file.suffix.lower() in UNREADABLE_IMAGE_SUFFIXES)
    if unread:
        note = (
            f"{subject} {len(unread)} images in formats that are not read ({listed(unread, _NAMED)}); convert them to "
            "JPEG or PNG."
        )
        if not images:
            raise InputError(note)
        log.warning("%s", note)
    if not images:
        raise InputError(f"{subject} no images ({', '.join(IMAGE_SUFFIXES)}).")
    return images


def _matches(pattern: Path) -> list[Path]:
    """Return the files and folders that a pattern matches; a part of it that exists stands for itself."""
    found = [pattern.anchor]
    for part in pattern.parts[1:] if pattern.anchor else pattern.parts:
        found = list(dict.fromkeys(path for folder in found for path in _step(folder, part)))
    return [Path(path) for path in found]


def _step(folder: str, part: str) -> Iterable[str]:
    """Return what one part of a pattern matches in a folder."""
    if part == "**":
        return _folders_below(folder or os.curdir)
    literal = os.path.join(folder, part)
    if os.path.lexists(literal):
        return [literal]
    inside = os.path.join(glob.escape(folder), "")
    return glob.glob(inside + part) or glob.glob(inside + part.replace("[", "[[]"))


def _folders_below(folder: str) -> Iterator[str]:
    """Yield a folder and those below it that are not hidden; each once, also where links form a circle."""
    seen = set()
    for current, names, _ in os.walk(folder, followlinks=True):
        facts = os.stat(current)
        if (facts.st_dev, facts.st_ino) in seen:
            names.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        names[:] = sorted(name for name in names if not is_hidden(name))
        yield current

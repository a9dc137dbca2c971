"""Detection of the layout of a data set, and opening of its splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.layouts import coco, roboflow, synthetic, voc, yolo
from anchordetr.data.layouts.archives import is_archive, unpacked
from anchordetr.data.layouts.base import FolderDataset
from anchordetr.data.layouts.holdout import Holdout, read_split
from anchordetr.data.layouts.image_scan import skip_unreadable
from anchordetr.errors import InputError, by_user, limited
from anchordetr.files import list_folders
from anchordetr.registry import DATA_LAYOUTS

log = logging.getLogger("anchordetr")

_MOST_TRIED = 20  # folders

__all__ = ["coco", "find_layout", "is_in_files", "locate", "open_dataset", "roboflow", "synthetic", "voc", "yolo"]


def open_dataset(
    path: str | Path,
    split: str,
    layout: str = "auto",
    skip_broken: bool = False,
    holdout: Holdout = Holdout(),  # noqa: B008
) -> DetectionDataset:
    """Open one split of a data set.

    Args:
        path: a folder, the file that describes a data set (``data.yaml``, COCO's JSON), a ``.zip`` of either, or
            ``shapes`` for the generated data set.
        split: ``train`` or ``val``.
        layout: a registered layout, or ``auto`` to detect it.
        skip_broken: decode every image now and skip those that cannot be read, with a warning that counts them.
        holdout: which images of ``train`` are ``val``, if the data set has no split for it.

    Raises:
        UsageError: no such layout is registered.
        InputError: the data set is missing, has no known layout, or its annotations are invalid.
    """
    path, layout = locate(Path(path), layout)
    found = DATA_LAYOUTS[layout]
    if is_in_files(found):
        raw = read_split(found, path, split, holdout)
        return found(skip_unreadable(raw) if skip_broken else raw)
    dataset: DetectionDataset = found.open(path, split)  # type: ignore[attr-defined]
    return dataset


def is_in_files(layout: Any) -> TypeGuard[type[FolderDataset]]:
    """Return whether a registered layout reads annotation files, so that images can be checked and held out."""
    return isinstance(layout, type) and issubclass(layout, FolderDataset)


def locate(path: Path, layout: str = "auto") -> tuple[Path, str]:
    """Return the place of a data set, which an archive is unpacked to, and its layout.

    Raises:
        InputError: as :func:`find_layout`, or an archive cannot be unpacked.
    """
    try:
        place = unpacked(path) if is_archive(path) else path
        return place, find_layout(place, layout)
    except InputError:
        raise
    except OSError as error:  # of names that are too long, and of folders that may not be read
        raise InputError(f"The data set {limited(path)} cannot be opened: {error.strerror}; check --data.") from error


def find_layout(path: Path, layout: str = "auto") -> str:
    """Return the layout of a data set: ``layout`` itself, or the detected one for ``auto``.

    Layouts whose own files are there come first, then those that have something that they can read. A warning says if
    there are several, of which the first is used.

    Raises:
        InputError: the data set is missing or has no known layout; the message says what it lacks for each layout.
    """
    if layout != "auto":
        return layout
    found = require_layout(path)
    if len(found) > 1:
        log.warning("%s has several layouts: %s; '%s' is used, data.layout chooses.", path, ", ".join(found), found[0])
    return found[0]


def require_layout(path: Path) -> list[str]:
    """Return the layouts that a data set has; no annotation is read.

    Raises:
        InputError: the folder is missing or has no known layout; the message says what it lacks for each layout.
    """
    layouts: dict[str, Any] = {name: DATA_LAYOUTS[name] for name in DATA_LAYOUTS.names()}
    reasons = {name: found.missing(path) for name, found in layouts.items()}
    found = [name for name, reason in reasons.items() if reason is None]
    found = found or [name for name, candidate in layouts.items() if is_in_files(candidate) and candidate.splits(path)]
    if found:
        return found
    if not path.exists():
        where = by_user("--data", "the argument data")
        raise InputError(f"The data set {path} does not exist; check {where}, or use 'shapes' for generated images.")
    missing = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    raise InputError(f"{path} has no known data layout. Looked for: {missing}.{_hint(path, layouts)}")


def _hint(path: Path, layouts: Mapping[str, Any]) -> str:
    """Return a sentence that names the folder below, or the folder around, that has the files of a layout."""
    inner = list_folders(path)[:_MOST_TRIED] if path.is_dir() else []
    candidates = [*inner, path.absolute().parent]
    found = next(
        (folder for folder in candidates if any(each.missing(folder) is None for each in layouts.values())), ""
    )
    return f" Perhaps you mean {found}." if found else " docs/data.md shows what is read."

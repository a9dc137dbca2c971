"""The base class of data sets stored in a folder."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from torch import Tensor

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.findings import KINDS
from anchordetr.data.images import read_image
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.validation import validated_table
from anchordetr.data.transforms import as_tensor
from anchordetr.errors import InputError

Part = TypeVar("Part")

_RESTS = ("", "id|idation|ing", r"[0-9]+", r"(?s:.*)")  # of a split's name, the best first


class FolderDataset(DetectionDataset):
    """One split of a data set in files. A subclass per layout finds the splits and reads their annotations.

    Boxes are clipped to their image, boxes without area are dropped, and a warning counts both.

    Attributes:
        source: annotation file or folder, for messages.
        root: the folder that the file names are relative to.

    Raises:
        InputError: images are missing, or annotations are invalid; the message lists them.
    """

    def __init__(self, raw: RawSplit) -> None:
        self.source = raw.source
        self.root = raw.root
        self.class_names = raw.class_names
        self.category_ids = raw.category_ids
        self.annotations = validated_table(raw)

    @staticmethod
    @abstractmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""

    @classmethod
    @abstractmethod
    def splits(cls, path: Path) -> Mapping[str, Any]:
        """Return the names of the splits, each with its location for :meth:`read`."""

    @classmethod
    @abstractmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: the split does not exist, or a file is not an annotation file of this layout.
        """

    @classmethod
    def open(cls, path: Path, split: str) -> Self:
        """Open a split.

        Raises:
            InputError: the split does not exist, or is invalid.
        """
        return cls(cls.read(path, split))

    def file(self, index: int) -> Path:
        """Return the file of image ``index``."""
        return self.root / self.annotations.file_names[index]

    def image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 RGB (3, H, W), upright.

        Raises:
            InputError: the file cannot be read, or its size differs from the annotated one.
        """
        file = self.file(index)
        try:
            image = read_image(file, str(file))
        except InputError as error:
            raise InputError(f"{error} {KINDS['unreadable_image'].advice}") from error
        height, width = (int(side) for side in self.annotations.sizes[index])
        found = (image.shape[0], image.shape[1])
        if found != (height, width):
            raise InputError(size_mismatch(str(file), found, (height, width)))
        return as_tensor(image)


def size_mismatch(name: str, found: tuple[int, int], annotated: tuple[int, int]) -> str:
    """Return the message for an image whose (height, width) differs from the annotated one."""
    rotated = " (rotated by its EXIF orientation)" if found == annotated[::-1] else ""
    return (
        f"{name} is {found[1]}x{found[0]} pixels upright, its annotations say {annotated[1]}x{annotated[0]}{rotated}. "
        f"{KINDS['wrong_size'].advice}"
    )


def choose_split(path: Path, split: str, found: Mapping[str, Part]) -> Part:
    """Return the split that :func:`match_split` finds.

    Raises:
        InputError: there is none, or several match equally well; the message lists the existing splits.
    """
    name = match_split(path, split, found)
    if name is None:
        raise InputError(f"{path} has no split '{split}'; it has {', '.join(found) or 'none'}.")
    return found[name]


def match_split(path: Path, split: str, names: Collection[str]) -> str | None:
    """Return the split of a name, or else the one whose name starts with it, or None.

    ``val`` matches ``val``, before ``valid`` and ``validation``, before ``val2017``, before any other name that starts
    with it. In the same way, ``train`` matches ``train``, ``training``, ``train2017``. ``valid`` and ``validation`` are
    ``val`` where no split has their names.

    Raises:
        InputError: several match equally well, or ``split`` is empty; the message lists them.
    """
    if not split.strip():
        raise InputError(f"The name of the split is empty; {path} has {', '.join(names) or 'none'}.")
    matching = [name for name in sorted(names) if name.startswith(split)]
    for rest in _RESTS:
        best = [name for name in matching if re.fullmatch(rest, name[len(split) :])]
        if len(best) > 1:
            raise InputError(
                f"{path} has several splits '{split}': {', '.join(best)}; name one in full, or rename them."
            )
        if best:
            return best[0]
    return match_split(path, "val", names) if split in ("valid", "validation") else None

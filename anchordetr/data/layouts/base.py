"""Data sets that lie in a folder: what their layouts have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from torch import Tensor

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.findings import KINDS
from anchordetr.data.images import read_image
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.validation import validated_table
from anchordetr.errors import InputError

Part = TypeVar("Part")


class FolderDataset(DetectionDataset):
    """One split of a data set in files; a layout says which splits there are and reads their annotations.

    Boxes are clipped to their image, boxes without area are dropped, and both are counted in a warning.

    Attributes:
        source: annotation file or folder, for messages. root: the folder that the file names start from.

    Raises:
        InputError: images are missing, or annotations cannot be used; the message lists which.
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
        """Return what keeps ``path`` from being a data set of this layout, or None."""

    @classmethod
    @abstractmethod
    def splits(cls, path: Path) -> Mapping[str, Any]:
        """Return the names of the splits, each with whatever :meth:`read` needs to find it."""

    @classmethod
    @abstractmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Read the annotations of a split as they are raw.

        Raises:
            InputError: the split is not there, or a file is no annotation file of this layout.
        """

    @classmethod
    def open(cls, path: Path, split: str) -> Self:
        """Open a split.

        Raises:
            InputError: the split is not there, or cannot be used.
        """
        return cls(cls.read(path, split))

    def file(self, index: int) -> Path:
        """Return the file of image ``index``."""
        return self.root / self.annotations.file_names[index]

    def image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 RGB (3, H, W), upright.

        Raises:
            InputError: the file cannot be read, or has another size than its annotations say.
        """
        file = self.file(index)
        try:
            image = read_image(file, str(file))
        except InputError as error:
            raise InputError(f"{error} {KINDS['unreadable_image'].advice}") from error
        height, width = (int(side) for side in self.annotations.sizes[index])
        if image.shape[1:] != (height, width):
            raise InputError(wrong_size(str(file), (image.shape[1], image.shape[2]), (height, width)))
        return image


def wrong_size(name: str, found: tuple[int, int], annotated: tuple[int, int]) -> str:
    """Return one sentence about an image whose annotations were made for another size (height, width)."""
    turned = " (turned by its EXIF orientation)" if found == annotated[::-1] else ""
    return (
        f"{name} is {found[1]}x{found[0]} pixels upright, its annotations say {annotated[1]}x{annotated[0]}{turned}. "
        f"{KINDS['wrong_size'].advice}"
    )


def choose_split(path: Path, split: str, found: Mapping[str, Part]) -> Part:
    """Return the split called ``split``, or the first whose name begins so (``val`` finds ``val2017`` and ``valid``).

    Raises:
        InputError: there is none; the message lists those that are there.
    """
    names = [name for name in sorted(found) if name.startswith(split)]
    if not names:
        raise InputError(f"{path} has no split '{split}'; it has {', '.join(found) or 'none'}.")
    return found[names[0]]

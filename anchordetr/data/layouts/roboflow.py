"""The layout of Roboflow's COCO export: ``train/_annotations.coco.json`` among the images of each split."""

from __future__ import annotations

from pathlib import Path

from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.coco import read_coco
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.files import is_hidden
from anchordetr.registry import DATA_LAYOUTS

_FILE = "_annotations.coco.json"


@DATA_LAYOUTS.register("roboflow")
class RoboflowDataset(FolderDataset):
    """One folder per split (``train``, ``valid``, ``test``) with its images and one annotation file."""

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""
        return None if _annotation_files(path) else f"no train/{_FILE}"

    @classmethod
    def splits(cls, path: Path) -> dict[str, Path]:
        """Return the annotation file of each split; the folder ``valid`` is the split ``val``."""
        folders = {file.parent.name: file for file in _annotation_files(path)}
        return {"val" if name == "valid" and "val" not in folders else name: file for name, file in folders.items()}

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: the split does not exist, or its file is not a COCO annotation file.
        """
        file = choose_split(path, split, cls.splits(path))
        return read_coco(file, [file.parent])


def _annotation_files(path: Path) -> list[Path]:
    return sorted(file for file in path.glob(f"*/{_FILE}") if not is_hidden(file.parent.name) and file.is_file())

"""Roboflow's export in COCO's format: ``train/_annotations.coco.json`` among the images of each split."""

from __future__ import annotations

from pathlib import Path

from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.coco import read_coco
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.registry import DATA_LAYOUTS

_FILE = "_annotations.coco.json"


@DATA_LAYOUTS.register("roboflow")
class RoboflowDataset(FolderDataset):
    """A folder for each split (``train``, ``valid``, ``test``) with its images and one annotation file."""

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what keeps ``path`` from being a data set of this layout, or None."""
        return None if any(path.glob(f"*/{_FILE}")) else f"no train/{_FILE}"

    @classmethod
    def splits(cls, path: Path) -> dict[str, Path]:
        """Return the annotation file of each split; the folder ``valid`` is the split ``val``."""
        folders = {file.parent.name: file for file in sorted(path.glob(f"*/{_FILE}"))}
        return {"val" if name == "valid" else name: file for name, file in folders.items()}

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Read the annotations of a split as they are written.

        Raises:
            InputError: the split is not there, or its file is no COCO annotation file.
        """
        file = choose_split(path, split, cls.splits(path))
        return read_coco(file, file.parent)

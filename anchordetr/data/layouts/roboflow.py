"""The layout of Roboflow's COCO export: ``train/_annotations.coco.json``, or a COCO file of any name, beside images."""

from __future__ import annotations

from pathlib import Path

from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.coco import read_coco
from anchordetr.data.layouts.coco_files import ROBOFLOW, files_in_folders, roboflow_files
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.registry import DATA_LAYOUTS


@DATA_LAYOUTS.register("roboflow")
class RoboflowDataset(FolderDataset):
    """One folder per split (``train``, ``valid``, ``test``) with its images and one annotation file."""

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""
        return None if roboflow_files(path) else f"no train/{ROBOFLOW}, and no COCO file in other folders"

    @classmethod
    def splits(cls, path: Path) -> dict[str, Path]:
        """Return the annotation file of each split; the folder ``valid`` is the split ``val``."""
        folders = {file.parent.name: file for file in files_in_folders(path)}
        return {"val" if name == "valid" and "val" not in folders else name: file for name, file in folders.items()}

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: the split does not exist, or its file is not a COCO annotation file.
        """
        file = choose_split(path, split, cls.splits(path))
        folders = [folder for folder in (file.parent, file.parent / "images") if folder.is_dir()]
        return read_coco(file, folders, path)

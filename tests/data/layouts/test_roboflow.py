"""The layout of Roboflow's COCO export."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.layouts.roboflow import RoboflowDataset


def test_the_dummy_parent_category_is_left_out_with_a_note(
    roboflow_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_dataset(roboflow_folder, "val").category_ids == [3, 7, 20]
    assert "category 0 'shapes' is the parent" in caplog.text


def test_a_parent_category_with_annotations_is_kept(changed: Callable[..., Path]) -> None:
    def change(content: dict[str, Any]) -> None:
        for category in content["categories"]:
            category["supercategory"] = "circle"
        content["categories"][0]["supercategory"] = "none"

    assert open_dataset(changed(change), "val").class_names == ["circle", "rectangle", "triangle"]


def test_hidden_folders_are_no_splits_and_valid_is_val_unless_there_is_one(
    roboflow_folder: Path, tmp_path: Path
) -> None:
    for name in ("train", "valid", ".ipynb_checkpoints", ".trash"):
        shutil.copytree(roboflow_folder / "valid", tmp_path / name)
    assert list(RoboflowDataset.splits(tmp_path)) == ["train", "val"]
    shutil.copytree(roboflow_folder / "valid", tmp_path / "val")
    assert list(RoboflowDataset.splits(tmp_path)) == ["train", "val", "valid"]

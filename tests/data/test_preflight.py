"""Checks before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.preflight import preflight
from anchordetr.errors import InputError

Changed = Callable[..., Path]


def both(folder: Path) -> tuple[Any, Any]:
    return open_dataset(folder, "train"), open_dataset(folder, "val")


def test_clean_data_gives_no_warning(coco_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    preflight(*both(coco_folder), num_queries=100)
    assert caplog.text == ""


def test_more_objects_than_queries_give_a_warning_with_a_count(
    coco_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, val = both(coco_folder)
    counts = np.diff(train.annotations.starts)
    preflight(train, val, num_queries=2)
    expected = f"queries: {(counts > 2).sum()} (shapes_train_"
    assert expected in caplog.text
    assert "model.num_anchors" in caplog.text


def test_duplicate_boxes_empty_classes_and_shared_files_are_counted(
    changed: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["category_id"] = 3
        content["annotations"].append({**content["annotations"][0], "id": 500})
        content["images"][0]["file_name"] = "../val/shapes_val_00000.png"

    preflight(*both(changed(change, split="train")), num_queries=100)
    assert "duplicate boxes of the same class: 1 (" in caplog.text
    assert "without a box: 2 (rectangle, triangle)" in caplog.text
    assert "in another split: 1 (" in caplog.text


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda file: file.write_bytes(b""), r"cannot be read: 1 \(shapes_train_00003\.png\).*skip_broken=true"),
        (lambda file: Image.new("RGB", (32, 16)).save(file), r"shapes_train_00003\.png: 32x16, not 64x64"),
    ],
    ids=["empty", "size"],
)
def test_training_refuses_unreadable_images_and_wrong_sizes(
    break_it: Callable[[Path], None], message: str, changed: Changed, small_config: Config, tmp_path: Path
) -> None:
    folder = changed(lambda content: None)
    break_it(folder / "train" / "shapes_train_00003.png")
    detector = Detector(small_config, device="cpu")
    with pytest.raises(InputError, match=message):
        detector.train(folder, tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()

"""What is looked at before training, and what is left out on request."""

from __future__ import annotations

import shutil
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


def truncate(file: Path) -> None:
    """Leave the header of an image, and too little after it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:2000])


def test_nothing_is_said_of_clean_data(coco_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    preflight(*both(coco_folder), num_queries=100)
    assert caplog.text == ""


def test_more_objects_than_queries_are_warned_of_with_a_count(
    coco_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, val = both(coco_folder)
    counts = np.diff(train.annotations.starts)
    preflight(train, val, num_queries=2)
    expected = f"more objects than the model has queries: {(counts > 2).sum()} (shapes_train_"
    assert expected in caplog.text
    assert "Raise model.num_anchors" in caplog.text


def test_repeated_boxes_empty_classes_and_shared_files_are_counted(
    changed: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["category_id"] = 3
        content["annotations"].append({**content["annotations"][0], "id": 500})
        content["images"][0]["file_name"] = "../val/shapes_val_00000.png"

    preflight(*both(changed(change, split="train")), num_queries=100)
    assert "boxes given twice with the same class: 1" in caplog.text
    assert "classes without a box: 2 (rectangle, triangle)" in caplog.text
    assert "images that are in another split too: 1 (" in caplog.text


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda file: file.write_bytes(b""), r"cannot be read: 1 \(shapes_train_00003\.png\).*data\.skip_broken=true"),
        (lambda file: Image.new("RGB", (32, 16)).save(file), r"shapes_train_00003\.png: 32x16, not 64x64"),
    ],
    ids=["empty", "size"],
)
def test_training_starts_with_images_that_fit_alone(
    break_it: Callable[[Path], None], message: str, changed: Changed, small_config: Config, tmp_path: Path
) -> None:
    folder = changed(lambda content: None)
    break_it(folder / "train" / "shapes_train_00003.png")
    detector = Detector(small_config, device="cpu")
    with pytest.raises(InputError, match=message):
        detector.train(folder, tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()


def test_broken_images_are_skipped_on_request_and_counted(
    changed: Changed, small_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(lambda content: None)
    truncate(folder / "train" / "shapes_train_00003.png")
    with pytest.raises(
        InputError, match=r"shapes_train_00003\.png cannot be read: .*truncated.*data\.skip_broken=true"
    ):
        open_dataset(folder, "train").image(3)
    dataset = open_dataset(folder, "train", skip_broken=True)
    assert "images that cannot be read, skipped: 1 (shapes_train_00003.png)" in caplog.text
    whole = open_dataset(folder, "train")
    assert len(dataset) == 7
    assert dataset.annotations[3].file_name == "shapes_train_00004.png"
    np.testing.assert_array_equal(dataset.annotations[3].boxes, whole.annotations[4].boxes)
    config = small_config.updated({"data.skip_broken": True})
    Detector(config, device="cpu").train(folder, tmp_path / "run", epochs=1)


def test_a_missing_image_is_not_skipped(changed: Changed) -> None:
    folder = changed(lambda content: None)
    (folder / "val" / "shapes_val_00000.png").unlink()
    with pytest.raises(InputError, match="missing images: 1"):
        open_dataset(folder, "val", skip_broken=True)


def test_a_yolo_image_without_a_size_is_refused_or_skipped(yolo_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(yolo_folder, tmp_path / "yolo"))
    (folder / "images" / "val" / "shapes_val_00001.png").write_bytes(b"text")
    with pytest.raises(InputError, match=r"images that cannot be read: 1 \(images/val/shapes_val_00001\.png\)"):
        open_dataset(folder, "val")
    assert len(open_dataset(folder, "val", skip_broken=True)) == 3

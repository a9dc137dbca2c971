"""Unreadable images: skipped on request, with a count."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

Changed = Callable[..., Path]


def truncate(file: Path) -> None:
    """Truncate an image after its header."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:2000])


def test_unreadable_images_are_skipped_on_request_and_counted(
    changed: Changed, small_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(lambda content: None)
    truncate(folder / "train" / "shapes_train_00003.png")
    with pytest.raises(InputError, match=r"shapes_train_00003\.png.*truncated.*skip_broken=true"):
        open_dataset(folder, "train").image(3)
    dataset = open_dataset(folder, "train", skip_broken=True)
    assert "skipped: 1 (shapes_train_00003.png)" in caplog.text
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
    with pytest.raises(InputError, match=r"cannot be read: 1 \(images/val/shapes_val_00001\.png\)"):
        open_dataset(folder, "val")
    assert len(open_dataset(folder, "val", skip_broken=True)) == 3

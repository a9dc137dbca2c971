"""The preview page of annotated samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anchordetr.config import DataConfig
from anchordetr.data.doctor.preview import augmentation_page, chosen_rows, sample_page
from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.data.loader import train_samples

Changed = Callable[..., Path]
Content = dict[str, Any]


def test_the_page_shows_boxes(changed: Changed) -> None:
    page = sample_page(examine(changed(lambda content: None)).splits)
    without = sample_page(examine(changed(lambda content: content["annotations"].clear())).splits)
    assert page is not None
    assert without is not None
    assert page.size == without.size
    assert page.width > page.height > 320
    drawn = (np.asarray(page) != np.asarray(without)).any(axis=2)
    assert 0.005 < drawn.mean() < 0.2


def test_images_with_findings_come_first(changed: Changed) -> None:
    def change(content: Content) -> None:
        last = content["images"][3]["id"]
        next(a for a in content["annotations"] if a["image_id"] == last)["bbox"][0] = -5

    val = examine(changed(change)).splits[1]
    assert chosen_rows(val, 3) == [3, 0, 2]


def test_no_page_without_images(changed: Changed) -> None:
    folder = changed(lambda content: None)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    assert sample_page(examine(folder).splits) is None


def test_the_page_of_augmentations_shows_training_samples_with_their_boxes() -> None:
    dataset = ShapesDataset("train", 5, size=64)

    def page(**values: object) -> np.ndarray:
        settings = DataConfig.model_validate({"train_short_sides": [64], "crop": False, "flips": [], **values})
        drawn = augmentation_page(train_samples(dataset, settings, seed=0), dataset.class_names)
        assert drawn is not None
        return np.asarray(drawn)

    plain = page()
    first, other_epoch = plain[4:324, 4:324], plain[4:324, 328:648]
    assert np.array_equal(first, other_epoch)
    assert not np.array_equal(first, plain[328:648, 4:324])  # another image
    jittered = page(color_jitter=1.0)
    assert not np.array_equal(jittered[4:324, 4:324], jittered[4:324, 328:648])
    dataset.annotations.boxes[:] = (0, 0, 1, 1)
    assert not np.array_equal(plain, page())


def test_no_page_of_augmentations_without_images() -> None:
    dataset = ShapesDataset("train", 0, size=64)
    assert augmentation_page(train_samples(dataset, DataConfig(), seed=0), dataset.class_names) is None

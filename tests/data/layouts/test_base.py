"""Images and sizes of data sets in folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import anchordetr
from anchordetr.data.images import load_image
from anchordetr.data.layouts.base import choose_split
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.transforms import as_tensor
from anchordetr.errors import InputError

Changed = Callable[..., Path]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1"])
def test_training_and_prediction_read_the_same_pixels(mode: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    values = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    drawn = (
        Image.fromarray(values) if mode == "I;16" else Image.fromarray((values // 256).astype(np.uint8)).convert(mode)
    )
    exif = Image.Exif()
    exif[0x0112] = 8
    name = "x.jpg" if mode == "CMYK" else "x.png"
    drawn.save(tmp_path / "val" / name, exif=exif)
    content = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path, "val")
    assert torch.equal(dataset.image(0), as_tensor(load_image(tmp_path / "val" / name)))
    assert dataset.image(0).shape == (3, 30, 20)


def test_an_image_of_another_size_than_annotated_is_refused(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 128}

    dataset = open_dataset(changed(change), "val")
    with pytest.raises(InputError, match=r"shapes_val_00000\.png.*64x64.*128x64"):
        dataset.image(0)


def test_layouts_import_nothing_of_the_doctor() -> None:
    folder = Path(str(anchordetr.__file__)).parent / "data"
    files = [*(folder / "layouts").glob("*.py"), *folder.glob("*.py")]
    assert len(files) > 15
    assert [file.name for file in files if "data.doctor" in file.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(
    ("split", "names", "chosen"),
    [
        ("val", ["valid", "val"], "val"),
        ("val", ["valid", "valid_old", "val2017"], "valid"),
        ("val", ["val2017", "val_small"], "val2017"),
        ("val", ["validation"], "validation"),
        ("train", ["train2", "training", "trainval"], "training"),
        ("train", ["train_small", "val"], "train_small"),
        ("val2014", ["val2014", "val2017"], "val2014"),
        ("valid", ["train", "val"], "val"),
        ("validation", ["train", "val2017"], "val2017"),
        ("valid", ["valid", "val"], "valid"),
    ],
)
def test_the_split_with_the_best_name_is_chosen(split: str, names: list[str], chosen: str) -> None:
    assert choose_split(Path("data"), split, {name: name for name in names}) == chosen


@pytest.mark.parametrize(
    ("split", "names", "message"),
    [
        ("val", ["val2014", "val2017"], "several splits 'val': val2014, val2017"),
        ("train", ["train_a", "train_b"], "several splits 'train': train_a, train_b"),
        ("", ["train", "val"], "empty; data has train, val"),
        (" ", [], "empty; data has none"),
        ("test", ["train", "val"], "no split 'test'; it has train, val"),
    ],
)
def test_an_uncertain_split_is_refused(split: str, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_split(Path("data"), split, dict.fromkeys(names))

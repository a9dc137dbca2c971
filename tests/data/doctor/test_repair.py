"""Repaired copies of data sets, and the list of changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from annotation_faults import Content, corners, of_first, of_image
from PIL import Image

from anchordetr.data.doctor.repair import Change, rotate_boxes, write_repaired
from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

Changed = Callable[..., Path]


def test_a_repair_changes_nothing_else(changed: Changed, coco_folder: Path, tmp_path: Path) -> None:
    changes = write_repaired(examine(changed(of_first(bbox=[5, 5, 0, 5]))), tmp_path / "fixed")
    assert changes == [Change("val", "annotation 1", "annotation left out: its box has no area inside the image")]
    for split in ("train", "val"):
        before, after = (open_dataset(folder, split).ground_truth() for folder in (coco_folder, tmp_path / "fixed"))
        if split == "val":
            del before["annotations"][0]
            for number, annotation in enumerate(before["annotations"], start=1):
                annotation["id"] = number
        assert after == before
        for file in (coco_folder / split).iterdir():
            assert (tmp_path / "fixed" / split / file.name).read_bytes() == file.read_bytes()


def test_boxes_in_xyxy_format_are_converted(changed: Changed, coco_folder: Path, tmp_path: Path) -> None:
    def change(content: Content) -> None:
        corners(content)
        for annotation in content["annotations"]:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]

    changes = write_repaired(examine(changed(change)), tmp_path / "fixed")
    expected, fixed = (open_dataset(folder, "val").annotations for folder in (coco_folder, tmp_path / "fixed"))
    np.testing.assert_allclose(fixed.boxes, expected.boxes, atol=1e-4)
    np.testing.assert_allclose(fixed.areas, expected.areas, rtol=1e-4)
    assert len(changes) == len(expected.boxes)


def test_boxes_of_another_resolution_are_scaled(changed: Changed, coco_folder: Path, tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for image in content["images"]:
            image |= {"width": 128, "height": 128}
        for annotation in content["annotations"]:
            annotation["bbox"] = [2 * side for side in annotation["bbox"]]
            annotation["area"] *= 4

    changes = write_repaired(examine(changed(change)), tmp_path / "fixed")
    assert changes[0] == Change("val", "shapes_val_00000.png", "boxes scaled from 128x128 to 64x64 pixels")
    expected, fixed = (open_dataset(folder, "val").annotations for folder in (coco_folder, tmp_path / "fixed"))
    np.testing.assert_allclose(fixed.boxes, expected.boxes, atol=1e-4)
    np.testing.assert_allclose(fixed.areas, expected.areas, rtol=1e-4)


def test_an_image_of_another_shape_is_left_out(changed: Changed, tmp_path: Path) -> None:
    changes = write_repaired(examine(changed(of_image(width=128))), tmp_path / "fixed")
    reason = "image left out: its annotations are for an image of another shape"
    assert changes == [Change("val", "shapes_val_00001.png", reason)]
    assert len(open_dataset(tmp_path / "fixed", "val")) == 3


def test_an_existing_folder_is_not_overwritten(coco_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "existing.txt").write_text("content")
    with pytest.raises(InputError, match=r"not empty.*new folder"):
        write_repaired(examine(coco_folder), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["existing.txt"]


def test_images_with_equal_names_are_kept_apart(changed: Changed, tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for image, folder in zip(content["images"], ("a", "b", "../val", "c"), strict=True):
            image["file_name"] = f"{folder}/same.png"

    folder = changed(lambda content: None)
    for index, place in enumerate(("a", "b", "", "c")):
        (folder / "val" / place).mkdir(exist_ok=True)
        (folder / "val" / f"shapes_val_{index:05d}.png").rename(folder / "val" / place / "same.png")
    report = examine(changed(change))
    assert report.clean
    assert write_repaired(report, tmp_path / "fixed") == []
    before, after = open_dataset(folder, "val"), open_dataset(tmp_path / "fixed", "val")
    assert [after.annotations[row].file_name for row in range(4)] == [
        "a/same.png",
        "b/same.png",
        "3_same.png",
        "c/same.png",
    ]
    assert all((before.image(row) == after.image(row)).all() for row in range(4))


def test_a_shared_image_stays_in_one_held_out_split(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    for old, new in (("train", "train2017"), ("val", "val2017")):
        (folder / old).rename(folder / new)
        (folder / "annotations" / f"instances_{old}.json").rename(folder / "annotations" / f"instances_{new}.json")
    shutil.copytree(folder / "val2017", folder / "test2017")
    annotations = folder / "annotations"
    shutil.copy(annotations / "instances_val2017.json", annotations / "instances_test2017.json")
    shutil.copy(folder / "val2017" / "shapes_val_00001.png", folder / "train2017" / "shapes_train_00000.png")
    changes = write_repaired(examine(folder), tmp_path / "fixed")
    assert len(changes) == 5
    assert examine(tmp_path / "fixed").clean
    assert len(open_dataset(tmp_path / "fixed", "train")) == 7


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_are_rotated_with_their_image(orientation: int, tmp_path: Path) -> None:
    """A white rectangle on the image as stored must lie in the rotated box of the upright image."""
    stored = np.zeros((40, 60, 3), dtype=np.uint8)
    stored[5:15, 8:30] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for part in ("annotations", "val"):
        (tmp_path / "data" / part).mkdir(parents=True)
    Image.fromarray(stored).save(tmp_path / "data" / "val" / "x.png", exif=exif)
    content = {
        "images": [{"id": 1, "file_name": "x.png", "height": 40, "width": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 5, 22, 10]}],
        "categories": [{"id": 1, "name": "white"}],
    }
    (tmp_path / "data" / "annotations" / "instances_val.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path / "data", "val")
    with pytest.raises(InputError, match=r"40x60.*60x40.*rotated.*EXIF"):
        dataset.image(0)
    changes = write_repaired(examine(tmp_path / "data"), tmp_path / "fixed")
    assert changes == [Change("val", "x.png", "boxes rotated from 60x40 to 40x60 pixels")]
    fixed = open_dataset(tmp_path / "fixed", "val")
    x, y, w, h = fixed.annotations.boxes[0].astype(int)
    image = fixed.image(0)
    assert (image[:, y : y + h, x : x + w] == 255).all()
    assert int((image[0] == 255).sum()) == w * h


def test_boxes_of_an_upright_image_are_unchanged() -> None:
    boxes = np.array([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(rotate_boxes(boxes, 40, 60, orientation=1), boxes)

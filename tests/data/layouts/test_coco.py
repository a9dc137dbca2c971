"""The COCO layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

Changed = Callable[..., Path]


def test_the_layout_is_detected_and_ids_are_kept(coco_folder: Path) -> None:
    dataset = open_dataset(coco_folder, "train")
    assert len(dataset) == 8
    assert dataset.class_names == ["circle", "rectangle", "triangle"]
    assert dataset.category_ids == [3, 7, 20]
    original = json.loads((coco_folder / "annotations" / "instances_train.json").read_text())
    assert dataset.ground_truth() == original
    assert dataset.image(0).shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [}', r"JSON.*line 1 column 13"),
        ("[]", "object with 'images'"),
        ('{"images": []}', "no list 'annotations'"),
        ('{"annotations": [], "categories": []}', "no list 'images'"),
        ('{"images": [3], "annotations": [], "categories": []}', r"images\[0\] is '3'.*object"),
        (
            '{"images": [{"id": 5}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 5\).*string.*'file_name'.*nothing",
        ),
        (
            '{"images": [{"id": "5", "file_name": "a"}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 5\).*integer.*'id'.*'5'",
        ),
        (
            '{"images": [], "annotations": [{"id": 9, "image_id": 1}], "categories": []}',
            r"annotations\[0\] \(id 9\).*integer.*'category_id'.*nothing",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "category id 1 ",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "category name 'a' ",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 99999999999999999999, "name": "a"}]}',
            "64 bits",
        ),
    ],
)
def test_a_malformed_annotation_file_is_named_with_the_position(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(text)
    with pytest.raises(InputError, match=rf"instances_val\.json.*{message}"):
        open_dataset(tmp_path, "val")


def test_info_and_sizes_are_optional(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content.pop("info")
        for image in content["images"]:
            del image["height"], image["width"]

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.sizes.tolist() == [[64, 64]] * 4


def test_area_and_iscrowd_are_optional(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            del annotation["area"], annotation["iscrowd"]

    table = open_dataset(changed(change), "val").annotations
    np.testing.assert_allclose(table.areas, table.boxes[:, 2:].prod(axis=1))
    assert not table.crowd.any()


def test_a_byte_order_mark_and_unicode_names_are_read(coco_folder: Path, changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "Ærøskøbing 円"
        content["images"][0]["file_name"] = "写真 ü.png"

    folder = changed(change)
    (folder / "val" / "shapes_val_00000.png").rename(folder / "val" / "写真 ü.png")
    file = folder / "annotations" / "instances_val.json"
    file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False), encoding="utf-8-sig")
    dataset = open_dataset(folder, "val")
    assert dataset.class_names[0] == "Ærøskøbing 円"
    assert dataset.annotations[0].file_name == "写真 ü.png"
    assert torch.equal(dataset.image(0), open_dataset(coco_folder, "val").image(0))


def test_a_split_without_its_image_folder_is_refused(coco_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(coco_folder / "annotations", tmp_path / "annotations")
    with pytest.raises(InputError, match=r"no folder.*instances_val\.json.*/val"):
        open_dataset(tmp_path, "val")


@pytest.mark.parametrize("first", [0, 1])
def test_ids_of_the_data_set_are_kept(first: int, changed: Callable[..., Path]) -> None:
    new = {3: first, 7: first + 1, 20: first + 5}

    def change(content: dict[str, Any]) -> None:
        for category in content["categories"]:
            category |= {"id": new[category["id"]], "supercategory": "none"}
        for annotation in content["annotations"]:
            annotation["category_id"] = new[annotation["category_id"]]
        for number, image in enumerate(content["images"]):
            old, image["id"] = image["id"], 100 * number
            for annotation in content["annotations"]:
                if annotation["image_id"] == old and "moved" not in annotation:
                    annotation |= {"image_id": image["id"], "moved": True}

    dataset = open_dataset(changed(change), "val")
    assert dataset.category_ids == [first, first + 1, first + 5]
    assert dataset.annotations.image_ids.tolist() == [0, 100, 200, 300]
    assert {a["category_id"] for a in dataset.ground_truth()["annotations"]} <= set(new.values())
    assert set(np.unique(dataset.annotations.labels)) <= {0, 1, 2}

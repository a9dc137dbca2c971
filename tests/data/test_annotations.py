"""Annotations with something wrong: refused with the names of what is wrong, or repaired with a count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

Changed = Callable[..., Path]


# ---------------------------------------------------------------------- files


def test_all_missing_images_are_listed_at_load(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for number, image in enumerate(content["images"][:3]):
            image["file_name"] = f"lost_{number}.png"

    with pytest.raises(InputError, match=r"missing images: 3 \(lost_0\.png, lost_1\.png, lost_2\.png\)\. Restore"):
        open_dataset(changed(change), "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [}', r"not valid JSON: .*line 1 column 13"),
        ("[]", "must hold an object with 'images'"),
        ('{"images": []}', "no list 'annotations'"),
        ('{"annotations": [], "categories": []}', "no list 'images'"),
        ('{"images": [3], "annotations": [], "categories": []}', r"images\[0\] is '3'; expected an object"),
        (
            '{"images": [{"id": 5}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 5\) needs a string as 'file_name'; got nothing",
        ),
        (
            '{"images": [{"id": "5", "file_name": "a"}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 5\) needs an integer as 'id'; got '5'",
        ),
        (
            '{"images": [], "annotations": [{"id": 9, "image_id": 1}], "categories": []}',
            r"annotations\[0\] \(id 9\) needs an integer as 'category_id'; got nothing",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "category id 1 to several",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "category name 'a' to several",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 99999999999999999999, "name": "a"}]}',
            "does not fit into 64 bits",
        ),
    ],
)
def test_a_malformed_annotation_file_is_named_with_the_position(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(text)
    with pytest.raises(InputError, match=rf"instances_val\.json.*{message}"):
        open_dataset(tmp_path, "val")


def test_info_and_sizes_may_be_missing(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content.pop("info")
        for image in content["images"]:
            del image["height"], image["width"]

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.sizes.tolist() == [[64, 64]] * 4


def test_area_and_iscrowd_may_be_missing(changed: Changed) -> None:
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


# ---------------------------------------------------------------------- ids


def test_duplicate_image_ids_are_refused_and_listed(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][2]["id"] = content["images"][1]["id"]

    message = r"image ids given to several images: 2 \(shapes_val_00001\.png \(id 2\), shapes_val_00002\.png \(id 2\)\)"
    with pytest.raises(InputError, match=message):
        open_dataset(changed(change), "val")


def test_duplicate_annotation_ids_are_refused_and_listed(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][:3]:
            annotation["id"] = 5

    with pytest.raises(InputError, match=r"annotation ids given several times: \d \(annotation 5, annotation 5"):
        open_dataset(changed(change), "val")


def test_unknown_categories_are_named(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["category_id"] = 99

    with pytest.raises(InputError, match=r"not listed: 1 \(annotation 1 has category 99\)"):
        open_dataset(changed(change), "val")


def test_annotations_of_unlisted_images_are_counted(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["image_id"] = 1234

    before = len(open_dataset(changed(lambda content: None), "val").annotations.labels)
    dataset = open_dataset(changed(change), "val")
    assert len(dataset.annotations.labels) == before - 1
    assert "annotations of images that are not listed, left out: 1 (annotation 1)" in caplog.text


# ---------------------------------------------------------------------- boxes


def test_boxes_without_area_are_dropped_with_their_ids(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation, box in zip(content["annotations"], ([5, 5, 0, 9], [5, 5, 9, -4], [70, 70, 5, 5]), strict=False):
            annotation["bbox"] = box

    before = len(open_dataset(changed(lambda content: None), "val").annotations.labels)
    dataset = open_dataset(changed(change), "val")
    assert len(dataset.annotations.labels) == before - 3
    assert "dropped: 3 (annotation 1, annotation 2, annotation 3)" in caplog.text
    assert (dataset.annotations.boxes[:, 2:] > 0).all()


def test_boxes_that_stick_out_are_clipped_and_counted(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [60, -10, 20, 30]

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.boxes[0].tolist() == [60, 0, 4, 20]
    assert "clipped: 1 (annotation 1)" in caplog.text


@pytest.mark.parametrize(
    "box", [[1, 2, float("nan"), 4], [1, 2, float("inf"), 4], [1, 2, 3], None, "box", [1, 2, 3, "wide"]], ids=str
)
def test_boxes_that_are_no_four_numbers_are_named(box: object, changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][1]["bbox"] = box

    with pytest.raises(InputError, match=r"bbox is not four finite numbers: 1 \(annotation 2\)"):
        open_dataset(changed(change), "val")


def test_corners_given_as_width_and_height_are_warned_of(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["bbox"] = [x, y, x + w, y + h]

    def half_outside(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][::2]:
            annotation["bbox"] = [50, 50, 30, 30]

    folder = changed(lambda content: None)
    whole = (folder / "annotations" / "instances_val.json").read_text()
    open_dataset(changed(half_outside), "val")
    assert "clipped" in caplog.text
    assert "x1, y1, x2, y2" not in caplog.text
    (folder / "annotations" / "instances_val.json").write_text(whole)
    open_dataset(changed(change), "val")
    assert "boxes that make sense as x1, y1, x2, y2 but not as x, y, width, height" in caplog.text
    assert "Check the box format" in caplog.text

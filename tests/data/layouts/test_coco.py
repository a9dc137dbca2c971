"""The COCO layout."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from perfect_detections import perfect_rows

from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError
from anchordetr.evaluation.coco import coco_metrics

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
        ('{"images": [3], "annotations": [], "categories": []}', r"images\[0\] is 3.*object"),
        (
            '{"images": [{"id": 5}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 5\).*string.*'file_name'.*nothing",
        ),
        (
            '{"images": [{"id": "img_5", "file_name": "a"}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 'img_5'\).*integer.*'id'.*'img_5'",
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
            '{"images": [], "annotations": [], "categories": [{"id": "01", "name": "a"}, {"id": 1.0, "name": "b"}]}',
            "category id 1 ",
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


ODD_VALUES = {
    "images": {
        "id": [True, None, 1.5, "1.5", "²", "", "img_1", [], {}, float("nan"), float("inf"), "9" * 5000],
        "file_name": [None, 3, "", " ", "a\0b", [], "\ud800.png"],
    },
    "annotations": {
        "id": [False, [1], "x"],
        "image_id": [None, True, [[]], "x", 0.5],
        "category_id": [[[]], {}, None, True, "cat", float("nan")],
        "area": [True, "12", 10**400, float("inf"), float("nan"), []],
        "iscrowd": ["0", 2, [], 0.5, float("nan")],
    },
    "categories": {
        "id": [[[]], True, None, 0.5],
        "name": [None, "", "  ", {}, True, 1.5, "\ud800"],
    },
}


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        pytest.param(part, key, value, id=f"{part}-{key}-{str(value)[:9]!a}")
        for part, keys in ODD_VALUES.items()
        for key, values in keys.items()
        for value in values
    ],
)
def test_a_value_of_another_kind_is_named_with_its_entry(part: str, key: str, value: Any, changed: Changed) -> None:
    folder = changed(lambda content: content[part][0].update({key: value}))
    message = rf"instances_val\.json: {part}\[0\] \(id .* needs .* as '{key}'; got "
    with pytest.raises(InputError, match=message) as error:
        open_dataset(folder, "val")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("value", [{}, [], None, 7, "none"])
def test_the_supercategory_may_be_anything(value: Any, changed: Changed) -> None:
    folder = changed(lambda content: content["categories"][0].update(supercategory=value))
    assert open_dataset(folder, "val").category_ids == [3, 7, 20]


@pytest.mark.parametrize("value", [10**400, -5, 64.5, "wide", [], True, float("nan"), float("inf")], ids=str)
def test_a_size_that_is_no_number_of_pixels_is_read_from_the_image(
    value: Any, changed: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = open_dataset(changed(lambda content: content["images"][2].update(width=value)), "val")
    assert dataset.annotations.sizes.tolist() == [[64, 64]] * 4
    assert "no whole number of pixels, which is read from the file: 1." in caplog.text


@pytest.mark.parametrize(
    "box",
    ["1234", {"0": 1, "1": 2, "2": 3, "3": 4}, [True, 1, 5, 5], [1, 2, 10**400, 4], [1, 2, 1e300, 4], [[1], 2, 3, 4]],
    ids=lambda box: str(box)[:20],
)
def test_only_a_list_of_four_numbers_is_a_box(box: Any, changed: Changed) -> None:
    with pytest.raises(InputError, match=r"bbox.*finite numbers: 1 \(annotation 1\)"):
        open_dataset(changed(lambda content: content["annotations"][0].update(bbox=box)), "val")


@pytest.mark.parametrize(
    "new_id",
    [
        lambda old: str(old),
        lambda old: f"{old:012d}",
        lambda old: float(old),
        lambda old: 2**53 + old,
        lambda old: -old,
        lambda old: 2**64 + old,
        lambda old: old * 10**400,
        lambda old: [2**63, -(2**63), 5, 6][old % 4] + old,
    ],
    ids=["digits", "zeros", "whole floats", "above float64", "negative", "above int64", "400 digits", "mixed"],
)
def test_ids_are_kept_whatever_their_size_and_spelling(
    new_id: Callable[[int], Any], changed: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation |= {key: new_id(annotation[key]) for key in ("id", "image_id", "category_id")}
        for entry in (*content["images"], *content["categories"]):
            entry["id"] = new_id(entry["id"])

    def number(old: int) -> int:
        return int(new_id(old))

    before, after = open_dataset(changed(lambda content: None), "val"), open_dataset(changed(change), "val")
    changed_ids = any(type(new_id(old)) is not int for old in range(4))
    assert ("read as integers: " in caplog.text) == changed_ids
    assert len(caplog.messages) == changed_ids
    assert sorted(after.category_ids) == sorted(map(number, before.category_ids))
    expected = [
        (number(a["image_id"]), number(a["category_id"]), a["bbox"]) for a in before.ground_truth()["annotations"]
    ]
    assert [(a["image_id"], a["category_id"], a["bbox"]) for a in after.ground_truth()["annotations"]] == expected
    assert coco_metrics(after, perfect_rows(after)).ap == pytest.approx(1.0)
    copied = pickle.loads(pickle.dumps(after.annotations))
    assert [record.image_id for record in copied] == [record.image_id for record in after.annotations]


def test_ids_that_are_equal_as_numbers_are_duplicates(changed: Changed) -> None:
    with pytest.raises(InputError, match=r"image ids.*: 2 \(shapes_val_00000\.png \(id 1\), shapes_val_00001\.png"):
        open_dataset(changed(lambda content: content["images"][1].update(id="001")), "val")


def test_images_are_read_from_the_folder_that_holds_them(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    folder = changed(lambda content: None)
    (folder / "val").rename(folder / "images")
    (folder / "val").mkdir()
    shutil.copy(folder / "train" / "shapes_train_00000.png", folder / "val" / "shapes_val_00000.png")
    dataset = open_dataset(folder, "val")
    assert {dataset.file(row).parent for row in range(4)} == {folder / "images"}  # type: ignore[attr-defined]
    assert f"images are read from {folder}/images; {folder}/val holds 1 of them" in caplog.text


def test_a_split_named_like_the_parent_folder_never_leaves_the_data_set(changed: Changed) -> None:
    folder = changed(lambda content: None)
    (folder / "annotations" / "instances_val.json").rename(folder / "annotations" / "instances_...json")
    for file in (folder / "val").iterdir():
        shutil.copy(file, folder.parent)
    with pytest.raises(InputError, match=r"no folder for the images of instances_\.\.\.json"):
        open_dataset(folder, "..")


def test_boxes_are_those_of_the_segmentation_if_there_are_none(
    changed: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [{**a, "image_id": 1} for a in content["annotations"][:3]]
        first, second, third = content["annotations"]
        del first["bbox"]
        first["segmentation"] = [[5, 6, 15, 6, 15, 26, 5, 26], [20, 8, 30, 8, 30, 10, 20, 10]]
        second |= {"bbox": [], "segmentation": {"size": [64, 64], "counts": [64 * 3 + 10, 5, 59, 5, 64 * 60 - 15]}}
        third |= {"bbox": [0, 0, 0, 0], "segmentation": [7, 8, 9, 8, 9, 12]}

    table = open_dataset(changed(change), "val").annotations
    assert table.boxes.tolist() == [[5, 6, 25, 20], [3, 10, 2, 5], [7, 8, 2, 4]]
    assert "annotations without a box, whose segmentation gives it: 3." in caplog.text


@pytest.mark.parametrize(
    "segmentation", [None, [], [[]], {}, "x", [[1, 2, 3]], {"size": [0, 0], "counts": ""}], ids=str
)
def test_neither_box_nor_segmentation_is_an_error(segmentation: Any, changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0] |= {"bbox": None, "segmentation": segmentation}

    with pytest.raises(InputError, match=r"bbox.*finite numbers: 1 \(annotation 1\)"):
        open_dataset(changed(change), "val")


def test_a_named_pipe_instead_of_annotations_is_refused_at_once(changed: Changed) -> None:
    folder = changed(lambda content: None)
    (folder / "annotations" / "instances_val.json").unlink()
    os.mkfifo(folder / "annotations" / "instances_val.json")
    with pytest.raises(InputError, match=r"instances_val\.json is a named pipe"):
        open_dataset(folder, "val")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": ' * 5000, f'{{"images": [{{"id": {"9" * 5000}}}]}}'])
def test_deep_nesting_and_numbers_of_thousands_of_digits_are_refused(text: str, changed: Changed) -> None:
    folder = changed(lambda content: None)
    (folder / "annotations" / "instances_val.json").write_text(text)
    with pytest.raises(InputError, match=r"instances_val\.json is not valid JSON"):
        open_dataset(folder, "val")

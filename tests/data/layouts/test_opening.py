"""Layouts: recognised by looking, equal in what they give, clear about what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anchordetr.data.layouts.base import FolderDataset
from anchordetr.data.layouts.coco import CocoDataset
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.layouts.roboflow import RoboflowDataset
from anchordetr.data.layouts.voc import VocDataset
from anchordetr.data.layouts.yolo import YoloDataset
from anchordetr.errors import InputError, UsageError

LAYOUTS = {
    "coco": (CocoDataset, [3, 7, 20]),
    "roboflow": (RoboflowDataset, [3, 7, 20]),
    "yolo": (YoloDataset, [3, 7, 20]),
    "voc": (VocDataset, [1, 2, 3]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_layout_gives_the_same_annotations(
    layout: str, split: str, coco_folder: Path, request: pytest.FixtureRequest
) -> None:
    kind, ids = LAYOUTS[layout]
    expected = open_dataset(coco_folder, split)
    dataset = open_dataset(request.getfixturevalue(f"{layout}_folder"), split)
    assert type(dataset) is kind
    assert dataset.class_names == ["circle", "rectangle", "triangle"]
    assert dataset.category_ids == ids
    assert len(dataset) == len(expected)
    for index in range(len(expected)):
        record, wanted = dataset.annotations[index], expected.annotations[index]
        assert Path(record.file_name).name == wanted.file_name
        assert (record.height, record.width) == (64, 64)
        np.testing.assert_allclose(record.boxes, wanted.boxes, atol=1e-4)
        np.testing.assert_array_equal(record.labels, wanted.labels)
        assert (dataset.image(index) == expected.image(index)).all()


def test_a_folder_of_no_layout_lists_what_each_one_misses(tmp_path: Path) -> None:
    reasons = [
        r"coco \(no annotations/instances_\*\.json\)",
        r"roboflow \(no train/_annotations\.coco\.json\)",
        r"shapes \(the name 'shapes'\)",
        r"voc \(no Annotations/\*\.xml\)",
        r"yolo \(no data\.yaml\)",
    ]
    with pytest.raises(InputError, match="has no known data layout.*" + "; ".join(reasons)):
        open_dataset(tmp_path, "val")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "1.xml").write_text("<annotation/>")
    with pytest.raises(InputError, match=r"voc \(no ImageSets/Main/train\.txt\)"):
        open_dataset(tmp_path, "val")


def test_a_missing_folder_and_an_unknown_layout_are_named(coco_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none does not exist; check --data"):
        open_dataset(tmp_path / "none", "val")
    with pytest.raises(UsageError, match="Unknown data layout 'coko'"):
        open_dataset(coco_folder, "val", layout="coko")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_split_lists_those_that_are_there(layout: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        open_dataset(request.getfixturevalue(f"{layout}_folder"), "test")


def test_a_coco_split_without_its_image_folder_is_named(coco_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(coco_folder / "annotations", tmp_path / "annotations")
    with pytest.raises(InputError, match=r"no folder for the images of instances_val\.json; expected .*val"):
        open_dataset(tmp_path, "val")


def test_roboflows_parent_category_is_left_out_with_a_note(
    roboflow_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_dataset(roboflow_folder, "val").category_ids == [3, 7, 20]
    assert "category 0 'shapes' is the parent of the others and has no boxes; left out" in caplog.text


def test_a_parent_category_that_is_used_stays(changed: Callable[..., Path]) -> None:
    def change(content: dict[str, Any]) -> None:
        for category in content["categories"]:
            category["supercategory"] = "circle"
        content["categories"][0]["supercategory"] = "none"

    assert open_dataset(changed(change), "val").class_names == ["circle", "rectangle", "triangle"]


@pytest.mark.parametrize("first", [0, 1])
def test_ids_from_zero_or_one_stay_the_data_sets_own(first: int, changed: Callable[..., Path]) -> None:
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


# ---------------------------------------------------------------------- YOLO


@pytest.fixture
def yolo(yolo_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(yolo_folder, tmp_path / "yolo"))


def test_roboflows_yolo_folders_and_lists_are_found(yolo: Path) -> None:
    (yolo / "train").mkdir()
    (yolo / "images" / "train").rename(yolo / "train" / "images")
    (yolo / "labels" / "train").rename(yolo / "train" / "labels")
    (yolo / "val.txt").write_text("./images/val/shapes_val_00001.png\nimages/val/shapes_val_00000.png\n")
    (yolo / "data.yaml").write_text(
        "train: ../train/images\nval: val.txt\nnc: 21\nnames: [" + ", ".join(f"c{i}" for i in range(21)) + "]\n"
    )
    train, val = open_dataset(yolo, "train"), open_dataset(yolo, "val")
    assert (len(train), len(val)) == (8, 2)
    assert len(train.annotations.labels) > 8
    assert train.category_ids == list(range(21))
    assert set(np.unique(train.annotations.labels)) <= {3, 7, 20}


def test_a_polygon_gives_its_box(yolo: Path) -> None:
    (yolo / "labels" / "val" / "shapes_val_00000.txt").write_text("7 0.25 0.5 0.5 0.25 0.75 0.5 0.5 1.0\n")
    record = open_dataset(yolo, "val").annotations[0]
    np.testing.assert_allclose(record.boxes, [[16, 16, 32, 48]])
    assert record.labels.tolist() == [1]


def test_images_without_label_files_are_negatives_with_a_count(yolo: Path, caplog: pytest.LogCaptureFixture) -> None:
    (yolo / "labels" / "val" / "shapes_val_00001.txt").unlink()
    dataset = open_dataset(yolo, "val")
    assert len(dataset) == 4
    assert len(dataset.annotations[1].labels) == 0
    assert "images without a label file, taken as without objects: 1." in caplog.text
    shutil.rmtree(yolo / "labels")
    with pytest.raises(InputError, match=r"no label file for any image of 'val'; expected .*labels.*\.txt"):
        open_dataset(yolo, "val")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 0.5 0.5 0.1", r"txt line 2: expected 'class cx cy w h' or a polygon; got 4 values"),
        ("cat 0.5 0.5 0.1 0.1", r"txt line 2: expected a class id and numbers; got 'cat 0\.5"),
        ("7 32 32 16 16", r"txt line 2: coordinates must be fractions of the image, not pixels; got 32"),
        ("8 0.5 0.5 0.1 0.1", r"not listed: 1 .*shapes_val_00000\.txt line 2 has category 8"),
        ("7 nan 0.5 0.1 0.1", r"not four finite numbers: 1 .*shapes_val_00000\.txt line 2"),
    ],
    ids=["values", "words", "pixels", "category", "nan"],
)
def test_a_bad_label_is_named_by_file_and_line(line: str, message: str, yolo: Path) -> None:
    (yolo / "labels" / "val" / "shapes_val_00000.txt").write_text("3 0.5 0.5 0.1 0.1\n" + line + "\n")
    with pytest.raises(InputError, match=message):
        open_dataset(yolo, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a\n", r"data\.yaml is not valid YAML"),
        ("- 1\n", r"data\.yaml must hold 'names'"),
        ("val: images/val\n", r"data\.yaml needs 'names'"),
        ("val: images/val\nnames: [a, a]\n", "one name to several classes"),
        ("val: images\nnames: [a]\n", r"names 'images', which is not in"),
    ],
)
def test_a_bad_data_yaml_is_named(text: str, message: str, yolo: Path) -> None:
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset(yolo, "val")


# ---------------------------------------------------------------------- VOC


@pytest.fixture
def voc(voc_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(voc_folder, tmp_path / "voc"))


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox>"


def test_voc_counts_pixels_from_one_and_takes_difficult_objects_as_crowds(
    voc: Path, caplog: pytest.LogCaptureFixture
) -> None:
    things = f"<object><name>cat</name>{BOX}</object><object><name>dog</name><difficult>1</difficult>{BOX}</object>"
    (voc / "Annotations" / "shapes_val_00000.xml").write_text(f"<annotation>{things}</annotation>")
    dataset = open_dataset(voc, "val")
    record = dataset.annotations[0]
    assert record.boxes.tolist() == [[0, 0, 10, 20]] * 2
    assert record.crowd.tolist() == [False, True]
    assert (record.height, record.width) == (64, 64)
    assert dataset.class_names == ["cat", "circle", "dog", "rectangle", "triangle"]
    assert "difficult objects, taken as crowds: 1." in caplog.text


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation>", r"shapes_val_00000\.xml is no annotation that can be read: no element found: line 1"),
        ('<!DOCTYPE a [<!ENTITY e "boom">]><annotation>&e;</annotation>', "it defines a document type"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', r"shapes_val_00000\.xml is no annotation"),
        (f"<annotation><object>{BOX.replace('10', 'ten')}</object></annotation>", r"shapes_val_00000\.xml object 1"),
    ],
    ids=["damaged", "entities", "encoding", "number"],
)
def test_a_bad_xml_file_is_named(xml: str, message: str, voc: Path) -> None:
    (voc / "Annotations" / "shapes_val_00000.xml").write_text(xml)
    with pytest.raises(InputError, match=message):
        open_dataset(voc, "val")


def test_listed_images_without_annotation_are_named(voc: Path) -> None:
    (voc / "Annotations" / "shapes_val_00002.xml").unlink()
    with pytest.raises(InputError, match=r"val\.txt lists 1 images without Annotations/\*\.xml: shapes_val_00002"):
        open_dataset(voc, "val")


# ---------------------------------------------------------------------- EXIF


@pytest.mark.parametrize("layout", ["yolo", "voc"])
def test_sizes_and_boxes_are_those_of_the_upright_image(layout: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(layout)
    exif = Image.Exif()
    exif[0x0112] = 6
    for file in folder.rglob("shapes_val_00000.png"):
        Image.new("RGB", (30, 40)).save(file, exif=exif)
    for file in folder.rglob("shapes_val_00000.xml"):
        file.write_text(f"<annotation><object><name>circle</name>{BOX}</object></annotation>")
    dataset = open_dataset(folder, "val")
    assert isinstance(dataset, FolderDataset)
    assert dataset.annotations.sizes[0].tolist() == [30, 40]
    assert dataset.image(0).shape == (3, 30, 40)

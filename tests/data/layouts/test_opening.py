"""Detection of layouts, and what all layouts have in common."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.layouts.base import FolderDataset
from anchordetr.data.layouts.coco import CocoDataset
from anchordetr.data.layouts.opening import find_layout, open_dataset
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
        record, reference = dataset.annotations[index], expected.annotations[index]
        assert Path(record.file_name).name == reference.file_name
        assert (record.height, record.width) == (64, 64)
        np.testing.assert_allclose(record.boxes, reference.boxes, atol=1e-4)
        np.testing.assert_array_equal(record.labels, reference.labels)
        assert (dataset.image(index) == expected.image(index)).all()


def test_an_unknown_layout_lists_what_each_known_one_requires(tmp_path: Path) -> None:
    reasons = [
        r"coco \(no annotations/instances_\*\.json, and no other COCO file\)",
        r"roboflow \(no train/_annotations\.coco\.json, and no COCO file in other folders\)",
        r"shapes \(the name 'shapes'\)",
        r"voc \(no Annotations/\*\.xml, and no XML files beside images\)",
        r"yolo \(no data\.yaml, and no classes\.txt beside labels\)",
    ]
    with pytest.raises(InputError, match="no known data layout.*" + ".*".join(reasons)):
        open_dataset(tmp_path, "val")


def test_a_missing_folder_and_an_unregistered_layout_are_named(coco_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none does not exist.*the argument data"):
        open_dataset(tmp_path / "none", "val")
    with pytest.raises(UsageError, match=r"Unknown.*'coko'"):
        open_dataset(coco_folder, "val", layout="coko")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_split_lists_the_existing_ones(layout: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(InputError, match=r"no split 'test'.*train, val"):
        open_dataset(request.getfixturevalue(f"{layout}_folder"), "test")


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox>"


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


@pytest.fixture
def yolo(yolo_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(yolo_folder, tmp_path / "yolo"))


@pytest.fixture
def voc(voc_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(voc_folder, tmp_path / "voc"))


@pytest.mark.parametrize("layout", ["roboflow", "yolo", "voc"])
def test_results_carry_the_ids_and_names_of_the_data_set(
    layout: str, request: pytest.FixtureRequest, small_config: Config, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"{layout}_folder")
    detector = Detector(small_config, device="cpu")
    detector.train(folder, tmp_path / "run", epochs=1)
    ids = dict(zip(open_dataset(folder, "val").category_ids, ("circle", "rectangle", "triangle"), strict=True))
    images = sorted(folder.rglob("shapes_val_*.png"))[:2]
    for found in Detector.from_pretrained(tmp_path / "run", device="cpu").predict_each(images, threshold=0.0):
        pairs = set(zip(found.data["category_id"].tolist(), found.data["class_name"].tolist(), strict=True))
        assert pairs <= set(ids.items())
        assert {result["category_id"] for result in found.to_coco(1)} <= set(ids)
    assert detector.evaluate(folder).per_class.keys() == set(ids.values())


def test_a_folder_with_several_layouts_is_said(yolo: Path, coco_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(coco_folder / "annotations", yolo / "annotations")
    assert find_layout(yolo) == "coco"
    assert "several layouts: coco, yolo; 'coco' is used" in caplog.text


@pytest.mark.parametrize("split", ["", "test"])
def test_a_split_that_the_generated_data_set_lacks_is_refused(split: str) -> None:
    with pytest.raises(InputError, match="train, val"):
        open_dataset("shapes", split)

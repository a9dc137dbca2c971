"""The Pascal VOC layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox>"


@pytest.fixture
def voc(voc_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(voc_folder, tmp_path / "voc"))


def test_corners_are_one_based_and_difficult_objects_are_crowds(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    objects = f"<object><name>cat</name>{BOX}</object><object><name>dog</name><difficult>1</difficult>{BOX}</object>"
    (voc / "Annotations" / "shapes_val_00000.xml").write_text(f"<annotation>{objects}</annotation>")
    dataset = open_dataset(voc, "val")
    record = dataset.annotations[0]
    assert record.boxes.tolist() == [[0, 0, 10, 20]] * 2
    assert record.crowd.tolist() == [False, True]
    assert (record.height, record.width) == (64, 64)
    assert dataset.class_names == ["cat", "circle", "dog", "rectangle", "triangle"]
    assert "treated as crowds: 1." in caplog.text


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation>", r"shapes_val_00000\.xml.*no element found: line 1"),
        ('<!DOCTYPE a [<!ENTITY e "boom">]><annotation>&e;</annotation>', "document type"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', r"shapes_val_00000\.xml.*encoding"),
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
    with pytest.raises(InputError, match=r"val\.txt.* 1 images without.*shapes_val_00002"):
        open_dataset(voc, "val")

"""The YOLO layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError


@pytest.fixture
def yolo(yolo_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(yolo_folder, tmp_path / "yolo"))


def test_folders_and_list_files_of_roboflow_are_found(yolo: Path) -> None:
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


def test_a_polygon_is_read_as_its_bounding_box(yolo: Path) -> None:
    (yolo / "labels" / "val" / "shapes_val_00000.txt").write_text("7 0.25 0.5 0.5 0.25 0.75 0.5 0.5 1.0\n")
    record = open_dataset(yolo, "val").annotations[0]
    np.testing.assert_allclose(record.boxes, [[16, 16, 32, 48]])
    assert record.labels.tolist() == [1]


def test_images_without_label_files_have_no_objects_and_are_counted(
    yolo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (yolo / "labels" / "val" / "shapes_val_00001.txt").unlink()
    dataset = open_dataset(yolo, "val")
    assert len(dataset) == 4
    assert len(dataset.annotations[1].labels) == 0
    assert "images without objects: 1 (images/val/shapes_val_00001.png)." in caplog.text
    shutil.rmtree(yolo / "labels")
    with pytest.raises(InputError, match=r"no label file.*'val'.*labels.*\.txt"):
        open_dataset(yolo, "val")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 0.5 0.5 0.1", r"txt line 2.*polygon.* 4 values"),
        ("cat 0.5 0.5 0.1 0.1", r"txt line 2.*class id.*'cat 0\.5"),
        ("7 32 32 16 16", r"txt line 2.*fractions.*not pixels.* 32"),
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
        ("names: [a\n", r"data\.yaml.*YAML"),
        ("- 1\n", r"data\.yaml.*'names', 'train' and 'val'"),
        ("val: images/val\n", r"data\.yaml.*'names': a list"),
        ("val: images/val\nnames: [a, a]\n", "one name to several"),
        ("val: photos\nnames: [a]\n", r"'photos'.*not in"),
    ],
)
def test_a_bad_data_yaml_is_named(text: str, message: str, yolo: Path) -> None:
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset(yolo, "val")

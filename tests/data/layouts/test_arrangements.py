"""The same images and boxes, arranged as tools for annotation write them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

YAML_NAMES = "names: {0: circle, 1: rectangle, 2: triangle}\n"
NAMES = "circle\nrectangle\ntriangle\n"
FOLDERS = {"train": "train", "val": "valid"}


def images(source: Path, split: str, target: Path) -> None:
    shutil.copytree(source / split, target, dirs_exist_ok=True)


def coco(source: Path, split: str, target: Path, prefix: str = "") -> None:
    """Write the annotations of a split to a COCO file of any name."""
    content = json.loads((source / "annotations" / f"instances_{split}.json").read_text())
    for image in content["images"]:
        image["file_name"] = prefix + image["file_name"]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content))


def labels(source: Path, split: str, target: Path) -> None:
    """Write the labels of a split with the class ids 0, 1, 2."""
    target.mkdir(parents=True, exist_ok=True)
    ids = {"3": "0", "7": "1", "20": "2"}
    for file in (source.parent / "yolo" / "labels" / split).iterdir():
        lines = [line.split(" ", 1) for line in file.read_text().splitlines()]
        (target / file.name).write_text("\n".join(f"{ids[number]} {rest}" for number, rest in lines))


def xml(source: Path, split: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for image in (source / split).iterdir():
        shutil.copy(source.parent / "voc" / "Annotations" / f"{image.stem}.xml", target)


@pytest.fixture
def source(coco_folder: Path, yolo_folder: Path, voc_folder: Path, tmp_path: Path) -> Path:
    """The data set in COCO's layout, with the others beside it."""
    for name, folder in (("coco", coco_folder), ("yolo", yolo_folder), ("voc", voc_folder)):
        shutil.copytree(folder, tmp_path / "sources" / name)
    return tmp_path / "sources" / "coco"


def coco_with_plain_names(source: Path, data: Path) -> None:
    for split in FOLDERS:
        images(source, split, data / "images" / split)
        coco(source, split, data / "annotations" / f"{split}.json")


def coco_at_the_top(source: Path, data: Path) -> None:
    for split, folder in FOLDERS.items():
        images(source, split, data / folder)
        coco(source, split, data / f"{folder}_annotations.json", f"{folder}/")


def coco_in_folders(source: Path, data: Path) -> None:
    for split, folder in FOLDERS.items():
        images(source, split, data / folder / "images")
        coco(source, split, data / folder / "labels.json")


def yolo_with_another_yaml(source: Path, data: Path) -> None:
    for split in FOLDERS:
        images(source, split, data / "images" / split)
        labels(source, split, data / "labels" / split)
    (data / "dataset.yml").write_text(
        "train: images/train\nvalidation: images/val\nnames: [circle, rectangle, triangle]"
    )


def yolo_without_yaml(source: Path, data: Path) -> None:
    for split, folder in FOLDERS.items():
        images(source, split, data / "images" / folder)
        labels(source, split, data / "labels" / folder)
    (data / "classes.txt").write_text(NAMES)


def roboflow_darknet(source: Path, data: Path) -> None:
    for split, folder in FOLDERS.items():
        images(source, split, data / folder)
        labels(source, split, data / folder)
        (data / folder / "_darknet.labels").write_text(NAMES)


def roboflow_voc(source: Path, data: Path) -> None:
    for split, folder in FOLDERS.items():
        images(source, split, data / folder)
        xml(source, split, data / folder)


def voc_in_folders(source: Path, data: Path) -> None:
    for split, folder in FOLDERS.items():
        images(source, split, data / "images" / folder)
        xml(source, split, data / "annotations" / folder)


def coco_beside(source: Path, data: Path) -> None:
    images(source, "train", data)
    coco(source, "train", data / "annotations.json")


def label_studio_coco(source: Path, data: Path) -> None:
    images(source, "train", data / "images")
    coco(source, "train", data / "result.json", "images\\")


def cvat_coco(source: Path, data: Path) -> None:
    images(source, "train", data / "images" / "default")
    coco(source, "train", data / "annotations" / "instances_default.json")


def fiftyone_coco(source: Path, data: Path) -> None:
    images(source, "train", data / "data")
    coco(source, "train", data / "labels.json")


def label_studio_yolo(source: Path, data: Path) -> None:
    images(source, "train", data / "images")
    labels(source, "train", data / "labels")
    (data / "classes.txt").write_text(NAMES)
    (data / "notes.json").write_text('{"categories": [], "info": {}}')


def cvat_ultralytics(source: Path, data: Path) -> None:
    images(source, "train", data / "images" / "train")
    labels(source, "train", data / "labels" / "train")
    (data / "data.yaml").write_text(YAML_NAMES + "path: .\ntrain: train.txt\n")
    listed = sorted(file.name for file in (data / "images" / "train").iterdir())
    (data / "train.txt").write_text("".join(f"data/images/train/{name}\n" for name in listed))


def darknet(source: Path, data: Path) -> None:
    images(source, "train", data / "obj_train_data")
    labels(source, "train", data / "obj_train_data")
    (data / "obj.names").write_text(NAMES)
    (data / "obj.data").write_text("classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    listed = sorted(file.name for file in (data / "obj_train_data").glob("*.png"))
    (data / "train.txt").write_text("".join(f"data/obj_train_data/{name}\n" for name in listed))


def one_folder_yolo(source: Path, data: Path) -> None:
    images(source, "train", data)
    labels(source, "train", data)
    (data / "classes.txt").write_text(NAMES)


def labels_among_images(source: Path, data: Path) -> None:
    images(source, "train", data / "images")
    labels(source, "train", data / "images")
    (data / "classes.txt").write_text(NAMES)


def one_folder_voc(source: Path, data: Path) -> None:
    images(source, "train", data)
    xml(source, "train", data)


def voc_without_lists(source: Path, data: Path) -> None:
    images(source, "train", data / "images")
    xml(source, "train", data / "annotations")


Arrange = Callable[[Path, Path], None]
BOTH: list[Arrange] = [
    coco_with_plain_names,
    coco_at_the_top,
    coco_in_folders,
    yolo_with_another_yaml,
    yolo_without_yaml,
    roboflow_darknet,
    roboflow_voc,
    voc_in_folders,
]
TRAIN_ONLY: list[Arrange] = [
    coco_beside,
    label_studio_coco,
    cvat_coco,
    fiftyone_coco,
    label_studio_yolo,
    cvat_ultralytics,
    darknet,
    one_folder_yolo,
    labels_among_images,
    one_folder_voc,
    voc_without_lists,
]


def check(data: Path, split: str, source: Path) -> None:
    """Check that a split has the images, boxes and classes of the source."""
    dataset, expected = open_dataset(data, split), open_dataset(source, split)
    assert dataset.class_names == expected.class_names
    assert [Path(record.file_name).name for record in dataset.annotations] == [
        record.file_name for record in expected.annotations
    ]
    np.testing.assert_allclose(dataset.annotations.boxes, expected.annotations.boxes, atol=1e-4)
    np.testing.assert_array_equal(dataset.annotations.labels, expected.annotations.labels)
    assert (dataset.image(0) == expected.image(0)).all()


@pytest.mark.parametrize("arrange", BOTH)
def test_exports_with_two_splits_are_read(
    arrange: Arrange, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrange(source, data := tmp_path / "data")
    for split in FOLDERS:
        check(data, split, source)
    assert "several layouts" not in caplog.text
    assert [split.name[:3] for split in examine(data).splits] == ["tra", "val"]


@pytest.mark.parametrize("arrange", TRAIN_ONLY)
def test_exports_with_one_split_are_its_train_split(
    arrange: Arrange, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrange(source, data := tmp_path / "data")
    check(data, "train", source)
    assert "several layouts" not in caplog.text
    assert "left out" not in caplog.text
    with pytest.raises(InputError, match=r"has no split 'val'; it has train.*--val-fraction 0\.2"):
        open_dataset(data, "val")


@pytest.mark.parametrize("arrange", [*BOTH, *TRAIN_ONLY])
def test_hidden_copies_change_nothing(arrange: Arrange, source: Path, tmp_path: Path) -> None:
    arrange(source, data := tmp_path / "data")
    for file in [file for file in data.rglob("*") if file.is_file()]:
        shutil.copy(file, file.with_name(f"._{file.name}"))
    shutil.copytree(data, tmp_path / "copy")
    shutil.move(tmp_path / "copy", data / ".ipynb_checkpoints")
    check(data, "train", source)


@pytest.mark.parametrize("arrange", [*BOTH, *TRAIN_ONLY])
def test_links_to_folders_are_followed(arrange: Arrange, source: Path, tmp_path: Path) -> None:
    arrange(source, data := tmp_path / "data")
    linked = tmp_path / "linked"
    linked.mkdir()
    for entry in data.iterdir():
        (linked / entry.name).symlink_to(entry)
    check(linked, "train", source)


@pytest.mark.parametrize(
    ("arrange", "name"),
    [
        (coco_beside, "annotations.json"),
        (label_studio_coco, "result.json"),
        (coco_with_plain_names, "annotations/train.json"),
        (cvat_coco, "annotations/instances_default.json"),
        (yolo_with_another_yaml, "dataset.yml"),
        (darknet, "obj.data"),
    ],
)
def test_the_file_that_describes_a_data_set_stands_for_it(
    arrange: Arrange, name: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange(source, data := tmp_path / "data")
    check(data / name, "train", source)
    monkeypatch.chdir(data)
    check(Path(name), "train", source)


@pytest.mark.parametrize("place", ["datasets/shapes", "{}/datasets/shapes"], ids=["relative", "absolute"])
def test_a_yaml_elsewhere_names_the_folder_of_the_data_set(
    place: str, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    yolo_with_another_yaml(source, tmp_path / "datasets" / "shapes")
    text = (tmp_path / "datasets" / "shapes" / "dataset.yml").read_text()
    (tmp_path / "configs").mkdir()
    file = tmp_path / "shapes128.yaml"
    file.write_text(f"path: {place.format(tmp_path)}\n{text}\n")
    check(file, "train", source)
    assert caplog.text == ""
    outside = tmp_path / "configs" / "shapes.yaml"
    outside.write_text(f"path: ../datasets/shapes\n{text}\n")
    check(outside, "val", source)
    assert "outside of the data set" in caplog.text


def test_a_single_annotation_file_of_a_split_is_that_split(source: Path, tmp_path: Path) -> None:
    coco_with_plain_names(source, data := tmp_path / "data")
    check(data / "annotations" / "val.json", "val", source)
    with pytest.raises(InputError, match=r"val\.json has no split 'train'; it has val"):
        open_dataset(data / "annotations" / "val.json", "train")


@pytest.mark.parametrize("suffix", ["", ".zip", ".json", ".yaml"])
def test_a_name_that_no_file_can_have_is_refused(suffix: str) -> None:
    with pytest.raises(
        InputError, match=r"The data set x{255}\.\.\. cannot be opened: File name too long; check --data"
    ):
        open_dataset("x" * 5000 + suffix, "train")


def test_file_names_that_no_file_can_have_are_missing_images(source: Path, tmp_path: Path) -> None:
    coco_beside(source, data := tmp_path / "data")
    content = json.loads((data / "annotations.json").read_text())
    content["images"] = [{"id": 1, "file_name": "x" * 5000, "width": 1, "height": 1}]
    (data / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has no folder for the images"):
        open_dataset(data, "train")


def test_other_json_files_are_no_annotations(source: Path, tmp_path: Path) -> None:
    coco_beside(source, data := tmp_path / "data")
    (data / "predictions.json").write_text("[]")
    (data / "captions.json").write_text('{"images": [], "annotations": []}')
    check(data, "train", source)


def test_two_annotation_files_without_a_split_in_their_names_are_listed(source: Path, tmp_path: Path) -> None:
    coco_beside(source, data := tmp_path / "data")
    shutil.copy(data / "annotations.json", data / "old.json")
    with pytest.raises(InputError, match=r"no split 'train'; it has annotations, old"):
        open_dataset(data, "train")


def test_a_folder_with_two_annotation_files_is_no_split(source: Path, tmp_path: Path) -> None:
    coco_in_folders(source, data := tmp_path / "data")
    shutil.copy(data / "train" / "labels.json", data / "train" / "old.json")
    with pytest.raises(InputError, match=r"no split 'train'; it has val"):
        open_dataset(data, "train")


def test_images_of_another_split_are_not_taken_for_missing_ones(source: Path, tmp_path: Path) -> None:
    coco_in_folders(source, data := tmp_path / "data")
    (data / "train" / "images" / "shapes_train_00001.png").rename(data / "valid" / "images" / "shapes_train_00001.png")
    with pytest.raises(InputError, match=r"missing images: 1 \(shapes_train_00001\.png\)"):
        open_dataset(data, "train")


def test_a_truncated_annotation_file_beside_images_is_named(source: Path, tmp_path: Path) -> None:
    coco_beside(source, data := tmp_path / "data")
    file = data / "annotations.json"
    file.write_text(file.read_text()[:-1])
    with pytest.raises(InputError, match=r"annotations\.json is not valid JSON"):
        open_dataset(data, "train")


def test_a_layout_with_its_own_files_comes_before_others(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    yolo_with_another_yaml(source, data := tmp_path / "data")
    coco(source, "train", data / "converted.json", "images/train/")
    assert examine(data).layout == "yolo"
    assert "several layouts" not in caplog.text


def test_a_prefix_is_left_out_if_one_file_can_be_meant(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cvat_ultralytics(source, data := tmp_path / "data")
    open_dataset(data, "train")
    assert "train.txt found without the first folders of their paths: 8 (data/images/train/shapes_train_" in caplog.text
    shutil.copytree(data / "images" / "train", data / "train")
    with pytest.raises(InputError, match="missing images: 8"):
        open_dataset(data, "train")


def test_a_prefix_never_leads_out_of_the_data_set(source: Path, tmp_path: Path) -> None:
    cvat_ultralytics(source, data := tmp_path / "data")
    images(source, "train", tmp_path / "other")
    (data / "train.txt").write_text("y/../other/shapes_train_00000.png\n")
    with pytest.raises(InputError, match="missing images: 1"):
        open_dataset(data, "train")
    settings = data / "data.yaml"
    settings.write_text(settings.read_text().replace("train.txt", "nowhere/."))
    with pytest.raises(InputError, match=r"names 'nowhere/\.', which is not in"):
        open_dataset(data, "train")


@pytest.mark.parametrize("text", ["", "\n\n", "cat\ncat\ndog\n", "cat\n\ndog\n", "\udcff"])
def test_unusable_class_lists_are_named(text: str, source: Path, tmp_path: Path) -> None:
    label_studio_yolo(source, data := tmp_path / "data")
    (data / "classes.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"classes\.txt"):
        open_dataset(data, "train")


def test_a_class_list_with_too_few_names_is_refused(source: Path, tmp_path: Path) -> None:
    label_studio_yolo(source, data := tmp_path / "data")
    (data / "classes.txt").write_text("circle\n")
    with pytest.raises(InputError, match="category that is not listed"):
        open_dataset(data, "train")


def test_class_names_without_labels_are_no_data_set(source: Path, tmp_path: Path) -> None:
    images(source, "train", data := tmp_path / "data")
    (data / "classes.txt").write_text(NAMES)
    with pytest.raises(InputError, match="no known data layout"):
        open_dataset(data, "train")
    with pytest.raises(InputError, match=r"has neither data\.yaml, nor a list of class names"):
        open_dataset(data, "train", layout="yolo")


@pytest.mark.parametrize("name", ["classes.txt", "images/shapes_train_00000.txt", "obj.data", "data.json"])
def test_pipes_instead_of_files_do_not_hang(name: str, source: Path, tmp_path: Path) -> None:
    labels_among_images(source, data := tmp_path / "data")
    (data / name).unlink(missing_ok=True)
    os.mkfifo(data / name)
    if name == "classes.txt":
        with pytest.raises(InputError, match="no known data layout"):
            open_dataset(data, "train")
    else:
        assert len(open_dataset(data, "train")) == 8


def test_captions_beside_images_are_no_labels(source: Path, tmp_path: Path) -> None:
    label_studio_yolo(source, data := tmp_path / "data")
    (data / "labels" / "shapes_train_00000.txt").unlink()
    (data / "images" / "shapes_train_00000.txt").write_text("a circle on a table\n")
    assert len(open_dataset(data, "train").annotations[0].labels) == 0


@pytest.mark.parametrize("text", ["\0", "train\nnames", "train = a.txt", "names = obj.names", "\udcff"])
def test_other_files_that_end_in_data_are_not_read(text: str, source: Path, tmp_path: Path) -> None:
    one_folder_yolo(source, data := tmp_path / "data")
    (data / "x.data").write_bytes(text.encode("utf-8", "surrogateescape"))
    check(data, "train", source)


def test_darknet_names_that_are_missing_are_named(source: Path, tmp_path: Path) -> None:
    darknet(source, data := tmp_path / "data")
    (data / "obj.names").unlink()
    with pytest.raises(InputError, match=r"obj\.data names 'data/obj\.names', which is not in"):
        open_dataset(data, "train")


def test_xml_without_image_and_images_without_xml_are_counted(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one_folder_voc(source, data := tmp_path / "data")
    (data / "shapes_train_00000.xml").unlink()
    (data / "shapes_train_00001.png").unlink()
    (data / "shapes_train_00002.png").rename(data / "shapes_train_00002.heic")
    assert len(open_dataset(data, "train")) == 5
    assert "without an annotation file, left out: 1 (shapes_train_00000.png)" in caplog.text
    assert "annotation files without an image, left out: 1 (shapes_train_00001.xml)" in caplog.text
    assert "formats that are not read, left out: 1 (shapes_train_00002.heic)" in caplog.text


def test_classes_of_folders_are_those_of_all_splits(source: Path, tmp_path: Path) -> None:
    roboflow_voc(source, data := tmp_path / "data")
    file = data / "valid" / "shapes_val_00000.xml"
    file.write_text(file.read_text().replace("</annotation>", "<object><name>aaa</name></object></annotation>"))
    assert examine(data).splits[0].raw.class_names == ["aaa", "circle", "rectangle", "triangle"]


@pytest.mark.parametrize("name", ["train", "shapes"])
def test_the_folder_that_is_meant_is_named(name: str, source: Path, tmp_path: Path) -> None:
    wrapped = tmp_path / "downloads" / "shapes"
    shutil.copytree(source, wrapped)
    given = wrapped / "train" if name == "train" else tmp_path / "downloads"
    with pytest.raises(InputError, match=rf"no known data layout\. .*Perhaps you mean {wrapped}\."):
        open_dataset(given, "train")


def test_class_ids_with_a_point_are_counted(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    label_studio_yolo(source, data := tmp_path / "data")
    file = data / "labels" / "shapes_train_00000.txt"
    file.write_text("0.0 0.5 0.5 0.2 0.2\n1. 0.4 0.4 0.2 0.2\n2 0.6 0.6 0.2 0.2\n")
    assert open_dataset(data, "train").annotations[0].labels.tolist() == [0, 1, 2]
    assert "class ids that are written as whole floats (0.0), read as integers: 2." in caplog.text
    file.write_text("0.5 0.5 0.5 0.2 0.2\n")
    with pytest.raises(InputError, match=r"shapes_train_00000\.txt line 1.*class id"):
        open_dataset(data, "train")

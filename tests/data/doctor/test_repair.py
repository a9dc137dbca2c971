"""Repaired copies of data sets, and the list of changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotation_faults import Content, corners, of_first, of_image
from PIL import Image
from small_disk import small_disk

from anchordetr.data.doctor.copying import image_names
from anchordetr.data.doctor.repair import Change, rotate_boxes, write_repaired
from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

Changed = Callable[..., Path]


def test_a_repair_changes_nothing_else(changed: Changed, coco_folder: Path, tmp_path: Path) -> None:
    changes = write_repaired(examine(changed(of_first(bbox=[5, 5, 0, 5]))), tmp_path / "fixed", accept_loss=True)
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
    changes = write_repaired(examine(changed(of_image(width=128))), tmp_path / "fixed", accept_loss=True)
    reason = "image left out: its annotations are for an image of another shape"
    assert changes == [Change("val", "shapes_val_00001.png", reason)]
    assert len(open_dataset(tmp_path / "fixed", "val")) == 3


def test_an_existing_folder_is_not_overwritten(coco_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "existing.txt").write_text("content")
    with pytest.raises(InputError, match=r"not empty.*new folder"):
        write_repaired(examine(coco_folder), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["existing.txt"]


def test_a_full_disk_is_named_with_the_bytes(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    for file in (folder / "val").iterdir():
        with file.open("ab") as stream:
            stream.write(bytes(2**16))  # behind the end of the image
    report = examine(folder)
    message = r"fixed is incomplete, remove it: .*\.png cannot be written: .* is full .* needed: \d\d,\d{3}, free"
    with small_disk(tmp_path / "disk", 2**17) as disk, pytest.raises(InputError, match=message):
        write_repaired(report, disk / "fixed")


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
    assert write_repaired(report, tmp_path / "fixed") == [Change("val", "../val/same.png", "its file is now same.png")]
    before, after = open_dataset(folder, "val"), open_dataset(tmp_path / "fixed", "val")
    assert [after.annotations[row].file_name for row in range(4)] == [
        "a/same.png",
        "b/same.png",
        "same.png",
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
    changes = write_repaired(examine(folder), tmp_path / "fixed", accept_loss=True)
    assert len(changes) == 5
    after = examine(tmp_path / "fixed")
    assert {finding.kind for _, finding in after.all_findings()} == {"no_images", "class_without_boxes"}
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


@pytest.mark.parametrize("name", ["..", "../../x", "/x", "a/b", "a\\b", "", ".", "annotations", "\x1b[31m", "x" * 300])
def test_a_split_of_any_name_stays_below_the_output_folder(name: str, coco_folder: Path, tmp_path: Path) -> None:
    report = examine(coco_folder)
    split = replace(report.splits[1], name=name)
    output = tmp_path / "out" / "fixed"
    changes = write_repaired(replace(report, splits=[report.splits[0], split]), output)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["fixed"]
    after = examine(output)
    assert after.clean
    new = next(split.name for split in after.splits if split.name != "train")
    assert changes == [Change(name, "split", f"its name is now {new}")]
    assert len(open_dataset(output, new)) == 4


def test_images_of_any_name_are_kept_apart_below_the_output_folder(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    (folder / "val" / "a").mkdir()
    outside = tmp_path / "elsewhere.png"
    names = ["2_x.png", "../x.png", str(outside), "a/2_x.png"]
    for index, name in enumerate(names):
        (folder / "val" / f"shapes_val_{index:05d}.png").rename(folder / "val" / name)

    def change(content: Content) -> None:
        for image, name in zip(content["images"], names, strict=True):
            image["file_name"] = name

    report = examine(changed(change))
    write_repaired(report, tmp_path / "out" / "fixed")
    before, after = open_dataset(folder, "val"), open_dataset(tmp_path / "out" / "fixed", "val")
    found = [after.annotations[row].file_name for row in range(4)]
    assert found == ["2_x.png", "x.png", "elsewhere.png", "a/2_x.png"]
    assert all((before.image(row) == after.image(row)).all() for row in range(4))
    written = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.png")}
    assert {f"fixed/val/{name}" for name in found} == {name for name in written if "val/" in name}
    assert examine(tmp_path / "out" / "fixed").clean


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/x.png", "b/x.png"], ["a/x.png", "b/x.png"]),
        (["../x.png", "x.png", "/x.png"], ["x_2.png", "x.png", "x_3.png"]),
        (["A.png", "a.png"], ["A.png", "a_2.png"]),
        (["a", "a/x.png"], ["a", "x.png"]),
        (["a/x.png", "A"], ["a/x.png", "A_2"]),
        (["a\\x.png", "C:\\x.png", "..\\x.png"], ["x.png", "x_2.png", "x_3.png"]),
        (["./x.png", "a//x.png", "a/../x.png"], ["x.png", "x_2.png", "x_3.png"]),
        ([".x.png", "\x1b.png", "/".join("abcdefghi") + "/x.png"], ["x.png", "_.png", "x_2.png"]),
    ],
)
def test_paths_of_copied_images_are_safe_and_distinct(names: list[str], expected: list[str]) -> None:
    assert image_names(names) == expected


def test_a_repair_that_leaves_out_much_writes_nothing(changed: Changed, tmp_path: Path) -> None:
    report = examine(changed(of_image(file_name="lost.png")))
    message = r"Nothing was written.*val would lose 1 of 4 images and \d of 11 boxes.*lost\.png.*--yes"
    with pytest.raises(InputError, match=message):
        write_repaired(report, tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


def test_a_repair_that_leaves_out_one_percent_is_written(changed: Changed, tmp_path: Path) -> None:
    def change(content: Content) -> None:
        first = content["annotations"][0]
        boxes = [[number % 50, number // 50, 3, 3] for number in range(200)]
        content["annotations"] = [{**first, "id": number + 1, "bbox": box} for number, box in enumerate(boxes)]
        for annotation in content["annotations"][:faulty]:
            annotation["bbox"] = [5, 5, 0, 5]

    faulty = 2
    assert len(write_repaired(examine(changed(change)), tmp_path / "fixed")) == 2
    faulty = 3
    with pytest.raises(InputError, match="val would lose 3 of 200 boxes"):
        write_repaired(examine(changed(change)), tmp_path / "again")


def test_an_emptied_data_set_is_never_clean(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    write_repaired(examine(folder), tmp_path / "fixed", accept_loss=True)
    after = examine(tmp_path / "fixed")
    assert not after.clean
    assert {finding.kind for _, finding in after.all_findings()} >= {"no_images"}


@pytest.mark.parametrize("prefix", ["images/", "images\\", "/home/me/val/", "./"])
def test_images_under_other_paths_and_polygons_without_boxes_are_kept(
    prefix: str, changed: Changed, coco_folder: Path, tmp_path: Path
) -> None:
    def change(content: Content) -> None:
        for image in content["images"]:
            image["file_name"] = prefix + image["file_name"]
        for annotation in content["annotations"]:
            x, y, w, h = annotation.pop("bbox")
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]

    write_repaired(examine(changed(change)), tmp_path / "fixed")
    before, after = (open_dataset(folder, "val") for folder in (coco_folder, tmp_path / "fixed"))
    assert after.ground_truth()["images"] == before.ground_truth()["images"]
    np.testing.assert_allclose(after.annotations.boxes, before.annotations.boxes, atol=1e-4)
    assert examine(tmp_path / "fixed").clean


def test_annotation_ids_of_any_size_are_renumbered(changed: Changed, tmp_path: Path) -> None:
    def change(content: Content) -> None:
        ids = [2**63 - 1, 2**63 - 1, 10**400, 0, -5, 2, "2", 3.0]
        for annotation, new in zip(content["annotations"], ids, strict=False):
            annotation["id"] = new

    write_repaired(examine(changed(change)), tmp_path / "fixed")
    content = json.loads((tmp_path / "fixed" / "annotations" / "instances_val.json").read_text())
    assert [a["id"] for a in content["annotations"]] == [2**63 - 1, 1, 10**400, 4, 5, 2, 6, 3, 9, 10, 11]


def test_an_image_that_is_a_link_is_copied(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    file = folder / "val" / "shapes_val_00000.png"
    file.rename(tmp_path / "kept.png")
    file.symlink_to(tmp_path / "kept.png")
    write_repaired(examine(folder), tmp_path / "fixed")
    copied = tmp_path / "fixed" / "val" / file.name
    assert not copied.is_symlink()
    assert copied.read_bytes() == file.read_bytes()


def test_a_file_or_a_dangling_link_is_no_output_folder(coco_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link", "file/below"):
        with pytest.raises(InputError, match="is no folder"):
            write_repaired(examine(coco_folder), tmp_path / name)

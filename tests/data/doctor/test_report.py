"""The doctor finds what is wrong; the repaired copy is clean, and lists every change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anchordetr.data.doctor.preview import sample_page
from anchordetr.data.doctor.repair import Change, write_repaired
from anchordetr.data.doctor.report import Report, examine
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

Changed = Callable[..., Path]
Content = dict[str, Any]


def found(report: Report) -> dict[str, tuple[str, list[str]]]:
    return {finding.kind: (split, list(finding.names)) for split, finding in report.all_findings()}


@pytest.mark.parametrize("layout", ["coco", "roboflow", "yolo", "voc"])
def test_a_clean_data_set_is_clean_in_every_layout(layout: str, request: pytest.FixtureRequest) -> None:
    report = examine(request.getfixturevalue(f"{layout}_folder"))
    assert report.layout == layout
    assert report.clean, found(report)
    statistics = report.to_dict()["splits"]
    assert [statistics[split]["images"] for split in ("train", "val")] == [8, 4]
    truth = open_dataset(report.data, "train")
    assert statistics["train"]["objects"] == len(truth.annotations.labels)
    assert statistics["train"]["image_width"] == {"smallest": 64, "median": 64, "largest": 64}
    assert statistics["train"]["box_width"]["largest"] == pytest.approx(truth.annotations.boxes[:, 2].max(), abs=1e-3)
    assert statistics["train"]["classes"]["triangle"]["objects"] == (truth.annotations.labels == 2).sum()


def corners(content: Content) -> None:
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]


def of_first(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["annotations"][0].update(values)


def of_image(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["images"][1].update(values)


def repeat_annotation(content: Content) -> None:
    content["annotations"].append({**content["annotations"][0], "id": 500})


def repeat_image(content: Content) -> None:
    content["images"].append({**content["images"][0], "id": 500})


FAULTS: dict[str, tuple[Callable[[Content], None], str]] = {
    "no_area": (of_first(bbox=[5, 5, 0, 5]), "annotation 1"),
    "outside": (of_first(bbox=[-5, 5, 20, 5]), "annotation 1"),
    "not_a_number": (of_first(bbox=None), "annotation 1"),
    "unknown_category": (of_first(category_id=99), "annotation 1 has category 99"),
    "unlisted_image": (of_first(image_id=99), "annotation 1"),
    "duplicate_annotation_id": (of_first(id=2), "annotation 2"),
    "looks_like_xyxy": (corners, "annotation"),
    "duplicate_box": (repeat_annotation, "shapes_val_00000.png"),
    "duplicate_image": (repeat_image, "shapes_val_00000.png"),
    "duplicate_image_id": (of_image(id=1), "shapes_val_00001.png (id 1)"),
    "missing_image": (of_image(file_name="lost.png"), "lost.png"),
    "wrong_size": (of_image(width=128, height=128), "shapes_val_00001.png is 64x64"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found_and_repaired(kind: str, changed: Changed, tmp_path: Path) -> None:
    change, name = FAULTS[kind]
    report = examine(changed(change))
    assert not report.clean
    split, names = found(report)[kind]
    assert split == "val"
    assert any(name in each for each in names), names
    changes = write_repaired(report, tmp_path / "fixed")
    assert changes
    assert json.loads((tmp_path / "fixed" / "changes.json").read_text()) == [each._asdict() for each in changes]
    after = examine(tmp_path / "fixed")
    assert after.clean, found(after)
    assert len(open_dataset(tmp_path / "fixed", "val")) >= 2


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


def test_corners_are_made_boxes_again(changed: Changed, coco_folder: Path, tmp_path: Path) -> None:
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


def test_broken_images_are_named_and_left_out(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    (folder / "val" / "shapes_val_00000.png").write_bytes(b"")
    whole = (folder / "val" / "shapes_val_00001.png").read_bytes()
    (folder / "val" / "shapes_val_00001.png").write_bytes(whole[: len(whole) // 2])
    report = examine(folder)
    names = found(report)["unreadable_image"][1]
    assert [name.split("/val/")[1].split(" ")[0] for name in names] == ["shapes_val_00000.png", "shapes_val_00001.png"]
    write_repaired(report, tmp_path / "fixed")
    assert len(open_dataset(tmp_path / "fixed", "val")) == 2
    assert examine(tmp_path / "fixed").clean


def test_an_image_in_train_and_val_is_found_by_its_content(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    shutil.copy(folder / "val" / "shapes_val_00002.png", folder / "train" / "shapes_train_00005.png")
    report = examine(folder)
    assert found(report)["shared_image"] == ("all", ["train: shapes_train_00005.png = val: shapes_val_00002.png"])
    changes = write_repaired(report, tmp_path / "fixed")
    assert [change[:2] for change in changes] == [("train", "shapes_train_00005.png")]
    assert examine(tmp_path / "fixed").clean


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


def test_notes_leave_a_data_set_clean(changed: Changed) -> None:
    def change(content: Content) -> None:
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 20]
        for number, annotation in enumerate(content["annotations"]):
            annotation["id"] = number

    report = examine(changed(change, split="train"))
    assert report.clean
    assert found(report)["class_without_boxes"] == ("train", ["triangle"])
    assert found(report)["zero_id"] == ("train", ["annotation 0"])


def test_imbalance_is_told(changed: Changed) -> None:
    def change(content: Content) -> None:
        for annotation in content["annotations"]:
            annotation["category_id"] = 3
        first = content["annotations"][0]
        content["annotations"] = [
            {**first, "id": number + 1, "bbox": [number % 50, number // 50, 3, 3]} for number in range(150)
        ]
        content["annotations"][7]["category_id"] = 7

    report = examine(changed(change))
    assert found(report)["imbalance"] == ("val", ["rectangle (1)"])


def test_images_with_more_objects_than_queries_are_counted(coco_folder: Path) -> None:
    counts = np.diff(open_dataset(coco_folder, "train").annotations.starts)
    report = examine(coco_folder, num_queries=int(counts.max()) - 1)
    names = [
        name for _, finding in report.all_findings() for name in finding.names if finding.kind == "too_many_objects"
    ]
    assert f"shapes_train_{counts.argmax():05d}.png ({counts.max()} objects)" in names


def test_an_unreadable_split_is_a_finding_and_cannot_be_repaired(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    (folder / "annotations" / "instances_val.json").write_text("{")
    report = examine(folder)
    assert found(report)["unusable"][1][0].startswith(f"val: {folder}/annotations/instances_val.json is not valid JSON")
    with pytest.raises(InputError, match="cannot be repaired"):
        write_repaired(report, tmp_path / "fixed")


def test_splits_with_other_classes_are_found(changed: Changed) -> None:
    report = examine(changed(lambda content: content["categories"][0].update(name="disc")))
    assert "class_mismatch" in found(report)


def test_an_empty_split_is_looked_at_too(changed: Changed, tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"], content["annotations"] = [], []

    report = examine(changed(change))
    assert report.to_dict()["splits"]["val"]["images"] == 0
    assert sample_page(report.splits) is not None
    assert write_repaired(report, tmp_path / "fixed") == []


def test_the_copy_never_overwrites(coco_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        write_repaired(examine(coco_folder), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_images_of_one_name_stay_apart_in_the_copy(changed: Changed, tmp_path: Path) -> None:
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


def test_generated_images_have_nothing_to_look_at() -> None:
    with pytest.raises(InputError, match="is not in files"):
        examine(Path("shapes"))

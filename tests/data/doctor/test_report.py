"""Problems found in a data set; the repaired copy has none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from annotation_faults import Content, corners, of_first, of_image

from anchordetr.data.doctor.preview import sample_page
from anchordetr.data.doctor.repair import write_repaired
from anchordetr.data.doctor.report import Report, examine
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

Changed = Callable[..., Path]


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
    with_triangles = sum(2 in truth.annotations[row].labels for row in range(8))
    assert statistics["train"]["classes"]["triangle"]["images"] == with_triangles


def repeat_annotation(content: Content) -> None:
    content["annotations"].append({**content["annotations"][0], "id": 500})


def repeat_image(content: Content) -> None:
    content["images"].append({**content["images"][0], "id": 500})


PROBLEMS: dict[str, tuple[Callable[[Content], None], str]] = {
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


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_problem_is_found_and_repaired(kind: str, changed: Changed, tmp_path: Path) -> None:
    change, name = PROBLEMS[kind]
    report = examine(changed(change))
    assert not report.clean
    split, names = found(report)[kind]
    assert split == "val"
    assert any(name in each for each in names), names
    changes = write_repaired(report, tmp_path / "fixed", accept_loss=True)
    assert changes
    assert json.loads((tmp_path / "fixed" / "changes.json").read_text()) == [each._asdict() for each in changes]
    after = examine(tmp_path / "fixed")
    assert after.clean, found(after)
    assert len(open_dataset(tmp_path / "fixed", "val")) >= 2


def test_unreadable_images_are_named_and_left_out(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    (folder / "val" / "shapes_val_00000.png").write_bytes(b"")
    whole = (folder / "val" / "shapes_val_00001.png").read_bytes()
    (folder / "val" / "shapes_val_00001.png").write_bytes(whole[: len(whole) // 2])
    report = examine(folder)
    names = found(report)["unreadable_image"][1]
    assert [name.split("/val/")[1].split(" ")[0] for name in names] == ["shapes_val_00000.png", "shapes_val_00001.png"]
    write_repaired(report, tmp_path / "fixed", accept_loss=True)
    assert len(open_dataset(tmp_path / "fixed", "val")) == 2
    assert examine(tmp_path / "fixed").clean


def test_an_image_in_train_and_val_is_found_by_its_content(changed: Changed, tmp_path: Path) -> None:
    folder = changed(lambda content: None)
    shutil.copy(folder / "val" / "shapes_val_00002.png", folder / "train" / "shapes_train_00005.png")
    report = examine(folder)
    assert found(report)["shared_image"] == ("all", ["train: shapes_train_00005.png = val: shapes_val_00002.png"])
    changes = write_repaired(report, tmp_path / "fixed", accept_loss=True)
    assert [change[:2] for change in changes] == [("train", "shapes_train_00005.png")]
    assert examine(tmp_path / "fixed").clean


def test_notes_leave_a_data_set_clean(changed: Changed) -> None:
    def change(content: Content) -> None:
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 20]
        for number, annotation in enumerate(content["annotations"]):
            annotation["id"] = number

    report = examine(changed(change, split="train"))
    assert report.clean
    assert found(report)["class_without_boxes"] == ("train", ["triangle"])
    assert found(report)["zero_id"] == ("train", ["annotation 0"])


def test_class_imbalance_is_reported(changed: Changed) -> None:
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


def test_splits_with_different_classes_are_found(changed: Changed) -> None:
    report = examine(changed(lambda content: content["categories"][0].update(name="disc")))
    assert "class_mismatch" in found(report)


def test_an_empty_split_is_reported(changed: Changed, tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"], content["annotations"] = [], []

    report = examine(changed(change))
    assert report.to_dict()["splits"]["val"]["images"] == 0
    assert not report.clean
    assert found(report)["no_images"] == ("val", ["val"])
    assert sample_page(report.splits) is not None
    assert write_repaired(report, tmp_path / "fixed") == []


def test_a_generated_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="not in files"):
        examine(Path("shapes"))


def test_a_split_without_boxes_is_not_clean(changed: Changed) -> None:
    report = examine(changed(lambda content: content["annotations"].clear()))
    assert found(report)["no_boxes"] == ("val", ["val"])
    assert not report.clean


def test_a_data_set_without_splits_is_not_clean_and_cannot_be_repaired(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.yaml").write_text("names: [a, b]\n")
    report = examine(tmp_path / "data")
    assert not report.clean
    assert "no_splits" in found(report)
    assert sample_page(report.splits) is None
    with pytest.raises(InputError, match="cannot be repaired"):
        write_repaired(report, tmp_path / "fixed")


def test_statistics_hold_ids_of_any_size(changed: Changed) -> None:
    def change(content: Content) -> None:
        for image, new in zip(content["images"], [10**400, 2**53 + 1, "7", 5.0], strict=True):
            old, image["id"] = image["id"], new
            for annotation in content["annotations"]:
                if annotation["image_id"] == old:
                    annotation["image_id"] = new

    statistics = examine(changed(change)).splits[1].statistics()
    assert statistics["image_ids"] == {"smallest": 5, "median": 7, "largest": 10**400}
    assert statistics["annotations"] == statistics["objects"] == 11

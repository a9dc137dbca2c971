"""Images that are held out of ``train`` where a data set has no split for validation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import call

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.doctor.repair import write_repaired
from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.holdout import Holdout, held_out_names
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError
from anchordetr.training.data import open_splits

QUARTER = Holdout(0.25, seed=3)
LAYOUTS = ["coco", "roboflow", "yolo", "voc"]


def without_val(layout: str, folder: Path, target: Path) -> Path:
    """Copy a data set without its split for validation."""
    shutil.copytree(folder, target)
    if layout == "coco":
        (target / "annotations" / "instances_val.json").unlink()
    elif layout == "roboflow":
        shutil.rmtree(target / "valid")
    elif layout == "yolo":
        settings = target / "data.yaml"
        settings.write_text(settings.read_text().replace("val: images/val\n", ""))
    else:
        (target / "ImageSets" / "Main" / "val.txt").unlink()
    return target


def names(data: Path, split: str, holdout: Holdout) -> list[str]:
    dataset = open_dataset(data, split, holdout=holdout)
    return [Path(record.file_name).name for record in dataset.annotations]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_out_the_same_images(
    layout: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = without_val(layout, request.getfixturevalue(f"{layout}_folder"), tmp_path / "data")
    train, val = names(data, "train", QUARTER), names(data, "val", QUARTER)
    assert val == sorted(held_out_names([f"shapes_train_{number:05d}.png" for number in range(8)], 0.25, 3))
    assert sorted(train + val) == [f"shapes_train_{number:05d}.png" for number in range(8)]
    assert "6 of 8 images are train, chosen with data.val_fraction 0.25 and the seed 3." in caplog.text
    assert "2 of 8 images are val" in caplog.text


@pytest.fixture
def data(coco_folder: Path, tmp_path: Path) -> Path:
    """Eight training images in COCO's layout."""
    return without_val("coco", coco_folder, tmp_path / "data")


def test_boxes_stay_with_their_images(data: Path, coco_folder: Path) -> None:
    whole = {record.file_name: record.boxes for record in open_dataset(coco_folder, "train").annotations}
    for split in ("train", "val"):
        for record in open_dataset(data, split, holdout=QUARTER).annotations:
            np.testing.assert_array_equal(record.boxes, whole[record.file_name])


def test_the_choice_depends_on_the_seed_and_little_on_other_images() -> None:
    files = [f"{number}.jpg" for number in range(200)]
    chosen = held_out_names(files, 0.2, seed=0)
    assert len(chosen) == 40
    assert chosen == held_out_names(files[::-1], 0.2, seed=0)
    assert chosen != held_out_names(files, 0.2, seed=1)
    assert len(chosen & held_out_names([*files, *(f"new{n}.jpg" for n in range(20))], 0.2, seed=0)) > 30


def test_folders_above_count_only_where_file_names_are_equal() -> None:
    files = [f"{number}.jpg" for number in range(20)]
    moved = {Path(name).name for name in held_out_names([f"/data/{name}" for name in files], 0.2, seed=0)}
    assert moved == held_out_names(files, 0.2, seed=0)
    frames = [f"{number}/rgb.jpg" for number in range(20)]
    assert len(held_out_names(frames, 0.2, seed=0)) == 4


@pytest.mark.parametrize(("fraction", "count"), [(0.001, 1), (0.5, 5), (0.999, 9)])
def test_at_least_one_image_is_on_each_side(fraction: float, count: int) -> None:
    assert len(held_out_names([f"{number}.jpg" for number in range(10)], fraction, seed=0)) == count


def test_an_image_that_is_listed_twice_is_on_one_side(data: Path) -> None:
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["images"] += [{**image, "id": image["id"] + 100} for image in content["images"]]
    file.write_text(json.dumps(content))
    train, val = names(data, "train", QUARTER), names(data, "val", QUARTER)
    assert (len(train), len(val)) == (12, 4)
    assert not set(train) & set(val)


def test_without_a_fraction_the_option_is_named(data: Path, small_config: Config) -> None:
    with pytest.raises(InputError, match=r"no split 'val'; it has train\. .*--val-fraction 0\.2 .*--split"):
        open_splits(data, small_config)
    assert len(open_dataset(data, "train")) == 8


def test_a_single_image_cannot_be_shared(data: Path) -> None:
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    first = content["images"][0]
    content |= {
        "images": [first],
        "annotations": [a for a in content["annotations"] if a["image_id"] == first["id"]],
    }
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"instances_train\.json has fewer than two images"):
        open_dataset(data, "val", holdout=QUARTER)


def test_a_split_of_its_own_is_used_and_the_fraction_is_not(
    coco_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(open_dataset(coco_folder, "val", holdout=QUARTER)) == 4
    assert caplog.text == ""
    assert len(open_dataset(coco_folder, "train", holdout=QUARTER)) == 8
    assert "data.val_fraction is not used" in caplog.text


def test_other_splits_stay_whole(data: Path, coco_folder: Path) -> None:
    shutil.copy(coco_folder / "annotations" / "instances_val.json", data / "annotations" / "instances_test.json")
    (data / "val").rename(data / "test")
    assert len(open_dataset(data, "test", holdout=QUARTER)) == 4
    with pytest.raises(InputError, match=r"no split 'other'; it has test, train"):
        open_dataset(data, "other", holdout=QUARTER)


def test_findings_are_those_of_the_images_of_a_part(yolo_folder: Path, tmp_path: Path) -> None:
    data = without_val("yolo", yolo_folder, tmp_path / "data")
    for split in ("train", "val"):
        name = names(data, split, QUARTER)[0]
        (data / "labels" / "train" / name).with_suffix(".txt").unlink()
        report = examine(data, holdout=QUARTER)
        findings = [pair for pair in report.all_findings() if pair[1].kind == "unlabelled_image"]
        found = {(of, tuple(finding.names)) for of, finding in findings}
        assert (split, (f"images/train/{name}",)) in found
    assert len(found) == 2


def test_training_and_evaluation_use_the_same_images(
    data: Path, small_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_config.updated({"data.val_fraction": 0.25, "train.seed": 3})
    metrics = Detector(config, device="cpu").train(data, tmp_path / "run", epochs=1)
    assert "2 of 8 images are val, chosen with data.val_fraction 0.25 and the seed 3." in caplog.text
    caplog.clear()
    loaded = Detector.from_pretrained(tmp_path / "run", device="cpu")
    assert loaded.evaluate(data).to_dict() == metrics.to_dict()
    assert "2 of 8 images are val, chosen with data.val_fraction 0.25 and the seed 3." in caplog.text


def test_the_doctor_writes_the_parts_as_splits(data: Path, tmp_path: Path) -> None:
    write_repaired(examine(data, holdout=QUARTER), tmp_path / "fixed")
    for split in ("train", "val"):
        assert names(tmp_path / "fixed", split, Holdout()) == names(data, split, QUARTER)


def test_the_doctor_says_that_there_is_no_split_for_validation(data: Path) -> None:
    report = examine(data)
    assert report.clean
    assert [(finding.kind, list(finding.names)) for _, finding in report.all_findings()] == [
        ("no_val", ["hold out images with --val-fraction 0.2"])
    ]
    assert [split.name for split in examine(data, holdout=QUARTER).splits] == ["train", "val"]


def test_the_options_of_train_and_doctor_hold_out_images(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("doctor", data, "--val-fraction", 0.25, "--seed", 3, "--samples", tmp_path / "s.png", "--json") == 0
    splits = json.loads(capsys.readouterr().out)["splits"]
    assert {name: split["images"] for name, split in splits.items()} == {"train": 6, "val": 2}
    small = [
        "backbone=test_resnet.r160_in1k",
        "pretrained_backbone=false",
        "features=c4",
        "embed_dim=32",
        "num_heads=4",
    ]
    changes = [part for change in small for part in ("--set", f"model.{change}")]
    command = ["train", "--data", data, "--output-dir", tmp_path / "run", "--model", "anchordetr_tiny", "--dry-run"]
    command += ["--val-fraction", 0.25, "--seed", 3, "--workers", 0, "--batch-size", 2, "--set", "data.short_side=48"]
    assert call(*command, *changes, "--set", "data.train_short_sides=[48]", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["training images"], plan["validation images"]) == (6, 2)


def test_a_fraction_that_leaves_nothing_is_refused(data: Path, tmp_path: Path) -> None:
    for fraction in (0, 1, -0.5, 2):
        assert call("train", "--data", data, "--output-dir", tmp_path / "run", "--val-fraction", fraction) == 2

"""A run is not resumed on other data unnoticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError
from anchordetr.training import state as checkpoint
from anchordetr.training.data_facts import describe_data


@pytest.fixture(scope="module")
def run(coco_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on a copy of the data."""
    folder = tmp_path_factory.mktemp("resumed")
    shutil.copytree(coco_folder, folder / "data")
    config = small(Config())
    Detector(config, device="cpu").train(folder / "data", folder / "run", epochs=1)
    return folder


def small(config: Config) -> Config:
    model = {"backbone": "test_resnet.r160_in1k", "pretrained_backbone": False, "features": "c4", "num_anchors": 4}
    model |= {"embed_dim": 32, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1, "ffn_dim": 16}
    data = {"workers": 0, "short_side": 48, "train_short_sides": [48], "crop": False}
    return config.updated({"model": model, "data": data})


@pytest.fixture
def parts(run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the run and of its data."""
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy" / "run", tmp_path / "copy" / "data"


def resume(folder: Path, data: Path, **options: Any) -> None:
    Detector.from_run(folder, device="cpu").train(data, folder, resume=True, epochs=1, **options)


def edit(data: Path, split: str, change: Callable[[dict[str, Any]], None]) -> None:
    file = data / "annotations" / f"instances_{split}.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def test_the_state_has_the_facts(run: Path) -> None:
    facts = checkpoint.load_state(run / "run" / "last")["data"]
    assert facts.pop("fingerprint")
    data = str(run / "data")
    assert facts == {"path": data, "given": data, "train_images": 8, "val_images": 4}
    shapes = open_dataset("shapes", "val")
    assert describe_data("shapes", shapes, shapes)["path"] == "shapes"


def test_the_same_data_elsewhere_is_accepted_with_a_note(
    run: Path, parts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = parts
    (data / "annotations" / "instances_val.json").touch()
    resume(folder, data)
    told = capsys.readouterr().err.replace("\n", "")
    assert f"The data has moved from {run / 'data'} to {data}; it is the same." in told


def rename_a_class(values: dict[str, Any]) -> None:
    values["categories"][0]["name"] = "disc"


def move_a_box(values: dict[str, Any]) -> None:
    values["annotations"][0]["bbox"][0] += 1


def remove_an_image(values: dict[str, Any]) -> None:
    gone = values["images"].pop()["id"]
    values["annotations"] = [entry for entry in values["annotations"] if entry["image_id"] != gone]


@pytest.mark.parametrize(
    ("splits", "change", "words"),
    [
        (("train", "val"), rename_a_class, "its classes were circle, .* and are now disc, "),
        (("train",), remove_an_image, "train had 8 images and has now 7"),
        (("val",), remove_an_image, "val had 4 images and has now 3"),
        (("train",), move_a_box, "its file names, image sizes or annotations have changed"),
        (("val",), move_a_box, "its file names, image sizes or annotations have changed"),
    ],
)
def test_other_data_is_refused(
    splits: tuple[str, ...],
    change: Callable[[dict[str, Any]], None],
    words: str,
    parts: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, data = parts
    for split in splits:
        edit(data, split, change)
    with pytest.raises(InputError, match=f"trained on other data.*: {words}.*--accept-changes"):
        resume(folder, data)
    resume(folder, data, accept_changes=True)
    assert "trained on other data" in capsys.readouterr().err


def test_another_number_of_classes_is_always_refused(parts: tuple[Path, Path]) -> None:
    folder, data = parts
    for split in ("train", "val"):
        edit(data, split, lambda values: values["categories"].append({"id": 99, "name": "star"}))
    with pytest.raises(InputError, match=r"are now circle, rectangle, triangle, star\. Start a new run .*--weights"):
        resume(folder, data, accept_changes=True)


@pytest.mark.parametrize("old", [None, "a text", {"train_images": 8}])
def test_a_state_without_the_facts_goes_on(old: Any, parts: tuple[Path, Path]) -> None:
    folder, data = parts
    state = checkpoint.load_state(folder / "last")
    del state["data"]
    checkpoint.save_state(folder / "last", state if old is None else {**state, "data": old})
    edit(data, "train", move_a_box)
    resume(folder, data)

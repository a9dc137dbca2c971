"""``anchordetr predict``: where results go, and what each format holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import call
from PIL import Image
from pycocotools.coco import COCO
from saved_models import smallest_config

from anchordetr import Detections, Detector


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model without training, whose class names are not file names."""
    torch.manual_seed(0)
    config = smallest_config(num_classes=3).updated({"data.short_side": 48})
    folder = tmp_path_factory.mktemp("model")
    detector = Detector(config, ["cat", "a/../b", "dog"], [4, 8, 15], device="cpu")
    torch.nn.init.normal_(detector.model.heads.class_head.weight)
    torch.nn.init.normal_(detector.model.heads.box_head.layers[-1].weight)
    detector.save_pretrained(folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with images of two sizes and one that is broken."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name, size in (("a.png", (40, 30)), ("c.png", (30, 50)), ("more/a.png", (20, 20))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)).save(folder / name)
    (folder / "b.png").write_bytes(b"no image")
    return folder


def predict(model: Path, *arguments: object, threshold: object = 0) -> int:
    return call("predict", *arguments, "--weights", model, "--device", "cpu", "--threshold", threshold)


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def files_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_results_have_class_names(model: Path, images: Path, tmp_path: Path) -> None:
    assert predict(model, images / "a.png", "--output-dir", tmp_path / "out") == 0
    results = read(tmp_path / "out" / "predictions.json")
    names = {4: "cat", 8: "a/../b", 15: "dog"}
    assert len(results) == 12
    assert all(result["class_name"] == names[result["category_id"]] for result in results)


def test_coco_holds_images_without_detections_and_keeps_their_numbers(
    model: Path, images: Path, tmp_path: Path
) -> None:
    sources = [images, images / "more"]
    assert predict(model, *sources, "--save", "coco", "--output-dir", tmp_path / "out", threshold=1) == 1
    content = read(tmp_path / "out" / "coco.json")
    assert content["annotations"] == []
    assert [(image["id"], image["height"], image["width"]) for image in content["images"]] == [
        (1, 40, 30),
        (3, 30, 50),
        (4, 20, 20),
    ]
    assert content["categories"] == [{"id": 4, "name": "cat"}, {"id": 8, "name": "a/../b"}, {"id": 15, "name": "dog"}]
    assert predict(model, *sources, "--save", "coco,json", "--output-dir", tmp_path / "all", "--skip-broken") == 0
    assert len(COCO(tmp_path / "all" / "coco.json").getAnnIds(imgIds=[3])) == 12
    scores = [annotation["score"] for annotation in read(tmp_path / "all" / "coco.json")["annotations"]]
    assert scores == [result["score"] for result in read(tmp_path / "all" / "predictions.json")]


def test_yolo_labels(model: Path, images: Path, tmp_path: Path) -> None:
    sources = [images / "a.png", images / "more"]
    out = tmp_path / "out"
    assert predict(model, *sources, "--save", "yolo-txt", "--no-images", "--output-dir", out) == 0
    assert files_in(out) == {"classes.txt", "labels/a.txt", "labels/a_2.txt"}
    assert (out / "classes.txt").read_text().splitlines() == ["cat", "a/../b", "dog"]
    rows = np.loadtxt(out / "labels" / "a.txt")
    found = Detector.from_pretrained(model, device="cpu").predict(images / "a.png", 0.0)
    np.testing.assert_array_equal(rows[:, 0], found.class_id)
    corners = np.concatenate([rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2], axis=1)
    np.testing.assert_allclose(corners * (30, 40, 30, 40), found.xyxy, atol=1e-3)
    np.testing.assert_allclose(rows[:, 5], found.confidence, atol=1e-5)
    assert predict(model, images / "a.png", "--save", "yolo-txt", "--output-dir", tmp_path / "b", threshold=1) == 0
    assert (tmp_path / "b" / "labels" / "a.txt").read_text() == ""


def test_crops(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(model, images / "a.png", "--save", "crops", "--no-images", "--output-dir", out) == 0
    files = files_in(out)
    assert {file.split("/")[1] for file in files} <= {"cat", "b", "dog"}
    assert files
    found = Detector.from_pretrained(model, device="cpu").predict(images / "a.png", 0.0)
    for file in files:
        with Image.open(out / file) as crop:
            x1, y1, x2, y2 = found.xyxy[int(Path(file).stem.split("_")[-1]) - 1].round().clip(0, (30, 40, 30, 40))
            assert crop.size == (x2 - x1, y2 - y1)


def test_without_images_none_are_kept(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_coco, kept = Detections.to_coco, []
    monkeypatch.setattr(Detections, "to_coco", lambda found, number: kept.append(found.image) or to_coco(found, number))
    assert predict(model, images / "a.png", "--no-images", "--output-dir", tmp_path / "out") == 0
    assert files_in(tmp_path / "out") == {"predictions.json", "predictions.jsonl"}
    assert set(kept) == {None}


def test_results_are_replaced_on_request_only(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").touch()
    assert predict(model, images / "a.png", "--output-dir", out) == 0
    before = (out / "predictions.json").read_text()
    capsys.readouterr()
    assert predict(model, images / "c.png", "--output-dir", out) == 1
    assert "add --overwrite" in capsys.readouterr().err
    assert (out / "predictions.json").read_text() == before
    assert predict(model, images / "c.png", "--output-dir", out, "--overwrite") == 0
    assert (out / "predictions.json").read_text() != before
    assert (out / "mine.txt").exists()


@pytest.mark.parametrize("name", ["predictions.jsonl", "coco.json", "classes.txt", "labels/a.txt", "0001_a.jpg"])
def test_any_result_asks_for_overwrite(name: str, model: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).touch()
    assert predict(model, images / "a.png", "--output-dir", tmp_path / "out") == 1
    assert files_in(tmp_path / "out") == {name}


def test_without_a_folder_the_next_free_name_is_taken_and_said(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("predict", "predict-2", "predict-3"):
        assert predict(model, images / "a.png") == 0
        assert f"Results go to runs/{name}.\n" in capsys.readouterr().err
        assert (tmp_path / "runs" / name / "predictions.json").exists()
    assert predict(model, images / "c.png", "--overwrite") == 0
    assert read(tmp_path / "runs" / "predict" / "predictions.json")[0]["file_name"].endswith("c.png")


def test_thresholds_and_classes(model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [images / "a.png", "--output-dir", tmp_path, "--overwrite", "--no-images", "--json"]

    def found(*options: object, threshold: object = 0) -> list[dict[str, Any]]:
        assert predict(model, *arguments, *options, threshold=threshold) == 0
        results: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return results

    everything = found()
    score = everything[5]["score"]
    assert found(threshold=f"cat=0,dog={score},a/../b=1") == [
        result
        for result in everything
        if result["class_name"] == "cat" or (result["class_name"] == "dog" and result["score"] >= score)
    ]
    assert found("--classes", "dog, cat") == [result for result in everything if result["class_name"] != "a/../b"]
    assert found("--max-detections", 2) == everything[:2]
    assert found("--save", "coco") == everything
    assert len(found("--set", "data.short_side=32", "--batch-size", 1, "--precision", "bf16")) == 12


def test_the_models_own_threshold_is_the_default(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Detector, "threshold", property(lambda detector: 0.0, lambda detector, value: None), raising=False
    )
    assert call("predict", images / "a.png", "--weights", model, "--device", "cpu", "--output-dir", tmp_path) == 0
    assert len(read(tmp_path / "predictions.json")) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "50"], "score in --threshold is 50"),
        (["--threshold", "nan"], "is nan"),
        (["--threshold", "cat=-1"], "is -1"),
        (["--threshold", "cat"], "is not a score or a list"),
        (["--threshold", "cat=0.5,0.5"], "mixes"),
        (["--threshold", "cta=0.5"], "no class 'cta'. Did you mean 'cat'"),
        (["--classes", "cta"], "no class 'cta'"),
        (["--max-detections", "0"], "--max-detections"),
        (["--batch-size", "0"], "--batch-size"),
        (["--precision", "fp8"], "precision is 'fp8'"),
        (["--save", "yolo"], "--save yolo is not known. Did you mean 'yolo-txt'"),
        (["--set", "data.short=1"], "Unknown configuration key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_are_wrong_usage(
    options: list[str], message: str, model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--weights", model, "--device", "cpu", "--output-dir", tmp_path / "out"]
    assert call("predict", images / "a.png", *arguments, *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("where", ["terminal", "pipe"])
def test_json_on_stdout_is_nothing_else(
    where: str, model: Path, images: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    if where == "terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
    assert predict(model, images, "--output-dir", tmp_path / "out", "--skip-broken", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == read(tmp_path / "out" / "predictions.json")
    assert ("3/3" in printed.err) == (where == "terminal")


def test_the_resolution_of_predictions(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--output-dir", tmp_path / "out", "--overwrite", "--no-images", "--json"]
    found = []
    for resolution in (32, 64):
        assert predict(model, images / "c.png", *arguments, "--resolution", resolution) == 0
        found.append(json.loads(capsys.readouterr().out))
    detector = Detector.from_pretrained(model, device="cpu", settings={"data.resolution": 64})
    expected = detector.predict(images / "c.png", 0.0)
    assert [result["score"] for result in found[1]] == expected.confidence.tolist()
    assert found[0] != found[1]
    assert predict(model, images / "c.png", *arguments, "--resolution", 0) == 2

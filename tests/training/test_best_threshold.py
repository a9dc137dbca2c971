"""The threshold with the best F1 travels with the model of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training_runs import saved_weights

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.evaluation import coco
from anchordetr.evaluation.thresholds import Thresholds
from anchordetr.weights.saved_model import read_model


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first evaluation have the best AP, and the threshold 0.31; the others 0.32, ..."""
    numbers = iter(range(31, 99))

    def thresholds(*arguments: Any) -> Thresholds:
        number = next(numbers)
        return Thresholds(0.8 - number / 100, number / 100, {"circle": number / 1000})

    monkeypatch.setattr(coco, "best_thresholds", thresholds)


@pytest.mark.usefixtures("evaluations")
def test_the_threshold_of_the_best_evaluation_is_kept(
    small_config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = small_config.updated({"train.lr": 1e-12, "train.backbone_lr": 0.0, "train.epochs": 3})
    detector = Detector(frozen, device="cpu")
    metrics = detector.train(coco_folder, tmp_path)
    expected = (0.31, {"circle": 0.031})
    assert (metrics.threshold, metrics.class_thresholds) == expected
    assert (detector.threshold, detector.class_thresholds) == expected
    best = Detector.from_pretrained(tmp_path, device="cpu")
    assert (best.threshold, best.class_thresholds) == expected
    assert read_model(tmp_path / "last").threshold == 0.33
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert (written["f1"], written["threshold"], written["class_thresholds"]) == (pytest.approx(0.49), *expected)
    assert "threshold 0.31 has the highest F1, 0.490" in capsys.readouterr().err
    assert "| threshold | 0.31, with the highest F1: 0.490 |" in (tmp_path / "report.md").read_text()
    assert "| threshold | 0.31 (highest F1 on the validation images: 0.490) |" in best.model_card("me/shapes")
    resumed = Detector.from_run(tmp_path, device="cpu")
    resumed.train(coco_folder, tmp_path, resume=True)
    assert (resumed.threshold, resumed.class_thresholds) == expected


def test_other_classes_have_no_thresholds_yet(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    detector = Detector(small_config, ["circle", "b", "c"], device="cpu")
    detector.threshold, detector.class_thresholds = 0.2, {"circle": 0.1}
    detector._adopt_classes(["circle", "b", "c"], [1, 2, 3], "name")
    assert detector.threshold == 0.2
    detector._adopt_classes(["circle", "d"], [1, 2], "name")
    assert (detector.threshold, detector.class_thresholds) == (0.5, {})


def test_a_detector_that_was_never_trained_says_so_once(
    small_config: Config, coco_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = coco_folder / "val" / "shapes_val_00000.png"
    classes = ["circle", "rectangle", "triangle"]
    detector = Detector(small_config, classes, device="cpu")
    detector.predict(image)
    detector.predict(image)
    assert caplog.text.count("was never trained") == 1
    caplog.clear()
    Detector(small_config, classes, device="cpu").dry_run(coco_folder)
    detector.save_pretrained(tmp_path / "model")
    Detector.from_pretrained(tmp_path / "model", device="cpu").predict(image)
    loaded = Detector(small_config, classes, device="cpu")
    loaded.model.load_state_dict(saved_weights(tmp_path / "model"))
    loaded.predict(image)
    loaded.train(coco_folder, tmp_path / "run", epochs=1)
    loaded.predict(image)
    Detector(small_config, classes, device="cpu").train(coco_folder, tmp_path / "other", epochs=1)
    assert "was never trained" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "is_trained", "words"),
    [
        ({}, False, 'near 0. Better: Detector("anchordetr_v2_small", recipe="finetune"), or Detector.from_pretrained('),
        ({}, True, 'for 8, load the weights with settings=recipe("finetune").'),
        ({"model.init": "local"}, False, None),
        ({"model.encoder_loss": True}, False, None),
    ],
)
def test_the_papers_recipe_on_few_images_names_a_better_command(
    settings: dict[str, Any],
    is_trained: bool,
    words: str | None,
    small_config: Config,
    coco_folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "my data").symlink_to(coco_folder)
    data = tmp_path / "my data"
    detector = Detector(small_config.updated(settings), ["circle", "rectangle", "triangle"], device="cpu")
    detector.origin = {"source": "a file"} if is_trained else {}
    detector.train(data, tmp_path / "run", epochs=1)
    assert ("paper's recipe" in caplog.text) == (words is not None)
    assert (words or "").format(data=data) in caplog.text
    caplog.clear()
    detector.train(data, tmp_path / "run", epochs=1, resume=True)
    assert "paper's recipe" not in caplog.text

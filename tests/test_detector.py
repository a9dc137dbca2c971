"""The object that most users hold."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import assert_same_tensors

from anchordetr import Detections, Detector
from anchordetr.config import Config
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError, UsageError
from anchordetr.evaluation.coco import coco_metrics, coco_rows
from anchordetr.optimize.budget import Budget, apply_budget


@pytest.fixture
def detector(small_config: Config) -> Detector:
    torch.manual_seed(0)
    detector = Detector(small_config, ["cat", "dog", "ox"], [4, 8, 15], device="cpu")
    torch.nn.init.normal_(detector.model.heads.class_head.weight)
    torch.nn.init.normal_(detector.model.heads.box_head.layers[-1].weight)
    return detector


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)


def test_one_in_one_out_and_a_list_in_a_list_out(detector: Detector, image: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    Image.fromarray(image).save(file)
    expected = detector.predict(image, threshold=0.0)
    assert isinstance(expected, Detections)
    for source in (file, str(file), Image.fromarray(image), torch.from_numpy(image).permute(2, 0, 1)):
        found = detector.predict(source, threshold=0.0)
        assert isinstance(found, Detections)
        np.testing.assert_allclose(found.xyxy, expected.xyxy, rtol=1e-5)
    for sources in ([image, file], tmp_path, str(tmp_path / "*.png")):
        several = detector.predict(sources, threshold=0.0)
        assert isinstance(several, list)
        np.testing.assert_allclose(several[-1].xyxy, expected.xyxy, rtol=1e-5)


def test_what_a_detection_tells(detector: Detector, image: np.ndarray) -> None:
    found = detector.predict(image, threshold=0.0)
    queries = 9 * 2
    assert len(found) == min(100, queries * 3)
    assert (np.diff(found.confidence) <= 0).all()
    assert set(found.data["class_name"]) <= {"cat", "dog", "ox"}
    np.testing.assert_array_equal(found.data["category_id"], np.array([4, 8, 15])[found.class_id])
    anchors = detector.model.queries.anchors.points.detach().numpy() * (70, 50)
    distance = np.abs(found.anchor_xy[:, None] - anchors[None]).max(axis=-1).min(axis=1)
    assert distance.max() < 1e-3
    assert set(found.pattern_id) == {0, 1}
    sure = detector.predict(image, threshold=float(found.confidence[3]))
    assert len(sure) == (found.confidence >= found.confidence[3]).sum()


def test_results_leave_in_every_format(detector: Detector, image: np.ndarray, tmp_path: Path) -> None:
    found = detector.predict(image, threshold=0.0)[:5]
    result = found.to_coco(image_id=9)[0]
    x1, y1, x2, y2 = found.xyxy[0]
    assert result["image_id"] == 9
    assert result["category_id"] == found.data["category_id"][0]
    assert result["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])
    json.dumps(result)
    drawn = found.plot(tmp_path / "drawn.png")
    assert drawn.size == (70, 50)
    with Image.open(tmp_path / "drawn.png") as saved:
        assert saved.size == (70, 50)
    assert not np.array_equal(np.asarray(drawn), image)
    nothing = found[found.confidence > 2]
    np.testing.assert_array_equal(np.asarray(nothing.plot()), image)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, None])
def test_the_batch_size_changes_no_result(batch_size: int | None, detector: Detector, image: np.ndarray) -> None:
    images = [image, image[::-1], image[:, :50], image[5:, :30], image[:, ::-1], image[:40]]
    found = detector.predict(images, 0.0, batch_size=batch_size)
    for one, alone in zip(found, map(partial(detector.predict, threshold=0.0), images), strict=True):
        np.testing.assert_allclose(one.xyxy, alone.xyxy, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(one.confidence, alone.confidence, atol=1e-4)


def test_a_batch_has_as_many_images_as_asked_for(detector: Detector, image: np.ndarray, coco_folder: Path) -> None:
    seen: list[int] = []
    network = detector._prepared.of(detector.model)
    network.register_forward_hook(lambda model, inputs, predictions: seen.append(predictions.logits.shape[1]))
    detector.predict([image] * 5, batch_size=2)
    assert seen == [2, 2, 1]
    seen.clear()
    detector.class_names = ["circle", "rectangle", "triangle"]
    metrics = detector.evaluate(coco_folder, batch_size=3)
    assert seen == [3, 1]
    assert detector.evaluate(coco_folder, batch_size=1) == metrics


def test_the_number_format_of_predictions(detector: Detector, image: np.ndarray, coco_folder: Path) -> None:
    seen: list[bool] = []
    network = detector._prepared.of(detector.model)
    network.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    exact, rough = (detector.predict(image, 0.0, precision=precision) for precision in ("fp32", "bf16"))
    assert seen == [False, True]
    np.testing.assert_allclose(np.sort(rough.confidence), np.sort(exact.confidence), atol=0.05)
    detector.class_names = ["circle", "rectangle", "triangle"]
    detector.evaluate(coco_folder, precision="bf16")
    assert all(seen[2:])


def test_some_classes_and_few_or_many_detections(detector: Detector, image: np.ndarray) -> None:
    everything = detector.predict(image, 0.0)
    cats = detector.predict(image, 0.0, classes=["cat"])
    assert set(cats["class_name"]) == {"cat"}
    np.testing.assert_array_equal(cats.confidence, everything[everything["class_name"] == "cat"].confidence)
    few = detector.predict(image, 0.0, max_detections=3)
    np.testing.assert_array_equal(few.confidence, everything.confidence[:3])
    assert len(detector.predict(image, 0.0, max_detections=1000)) == 9 * 2 * 3


def test_the_detectors_own_threshold(detector: Detector, image: np.ndarray) -> None:
    everything = detector.predict(image, 0.0)
    detector.threshold = float(everything.confidence[3])
    assert len(detector.predict(image)) == len(detector(image)) == (everything.confidence >= detector.threshold).sum()
    assert len(next(detector.predict_each([image]))) == len(detector.predict(image))
    detector.class_thresholds = {"cat": 0.0}
    some = detector.predict(image, threshold=detector.class_thresholds)
    expected = everything[(everything["class_name"] == "cat") | (everything.confidence >= detector.threshold)]
    np.testing.assert_array_equal(some.confidence, expected.confidence)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"max_detections": -1}, "max_detections is -1"),
        ({"precision": "fp8"}, "precision is 'fp8'; it must be one of fp32, bf16, fp16"),
        ({"classes": ["cta"]}, "no class 'cta'.*Did you mean 'cat'"),
        ({"classes": "cat"}, "must be a list"),
        ({"classes": []}, "at least one"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(
    options: dict[str, Any], message: str, detector: Detector, image: np.ndarray
) -> None:
    with pytest.raises(UsageError, match=message):
        detector.predict(image, **options)
    with pytest.raises(UsageError, match=message):
        detector.predict_each([image], **options)


def test_supervision_gets_the_same_fields(detector: Detector, image: np.ndarray) -> None:
    pytest.importorskip("supervision", reason="needs the extra anchordetr[supervision]")
    found = detector.predict(image, threshold=0.0)
    theirs = found.to_supervision()
    np.testing.assert_array_equal(theirs.xyxy, found.xyxy)
    np.testing.assert_array_equal(theirs.data["class_name"], found.data["class_name"])


def test_missing_supervision_names_the_install_command(
    detector: Detector, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'anchordetr\[supervision\]'"):
        detector.predict(image).to_supervision()


def test_saved_and_loaded_it_predicts_the_same(detector: Detector, image: np.ndarray, tmp_path: Path) -> None:
    detector.save_pretrained(tmp_path / "model")
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    loaded = Detector.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.class_names == ["cat", "dog", "ox"]
    assert loaded.category_ids == [4, 8, 15]
    np.testing.assert_array_equal(loaded.predict(image, 0.0).xyxy, detector.predict(image, 0.0).xyxy)


def test_bad_model_folders_are_explained(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a saved model"):
        Detector.from_pretrained(tmp_path)
    folder = tmp_path / "model"
    detector.save_pretrained(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        Detector.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(InputError, match="format version 99, written by"):
        Detector.from_pretrained(folder)
    config["model"]["ffn_dim"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="do not fit the model"):
        Detector.from_pretrained(folder)


def test_wrong_use_is_explained(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="list of images is empty"):
        detector.predict([])
    with pytest.raises(InputError, match="this detector"):
        detector.evaluate(coco_folder)
    with pytest.raises(UsageError, match=r"'epoch'. Did you mean 'epochs' \(train\.epochs\)"):
        detector.train(coco_folder, tmp_path, epoch=3)
    with pytest.raises(InputError, match="3 class names but 2 category ids"):
        Detector(detector.config, ["a", "b", "c"], [1, 2])
    with pytest.raises(UsageError, match="device 'gpux'"):
        Detector(detector.config, device="gpux")


@pytest.mark.parametrize("names", ["cat", [], [1, 2, 3], b"cat"], ids=str)
def test_class_names_are_a_list_of_texts(names: Any, small_config: Config) -> None:
    with pytest.raises(UsageError, match="class_names is a list"):
        Detector(small_config, names)


def test_a_recipe_and_settings_change_the_preset(small_config: Config, tmp_path: Path) -> None:
    detector = Detector(small_config, recipe="finetune", settings={"train.lr": 0.5, "resolution": 64, "epochs": 2})
    train, data = detector.config.train, detector.config.data
    assert (train.schedule, train.lr, train.epochs) == ("cosine", 0.5, 2)
    assert (data.resolution, data.long_side) == (64, 64)
    with pytest.raises(UsageError, match="Unknown recipe 'fine'"):
        Detector(small_config, recipe="fine")
    detector.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=rf"no preset; load .* Detector\.from_pretrained\('{tmp_path}'\)"):
        Detector(str(tmp_path))


def test_a_detector_describes_itself(detector: Detector) -> None:
    count = sum(parameter.numel() for parameter in detector.model.parameters()) / 1e6
    tiny = Detector("anchordetr_tiny", [f"class {index}" for index in range(9)], device="cpu")
    assert repr(tiny).startswith(
        "Detector(anchordetr_tiny; 9 classes: class 0, class 1, class 2, ...; images up to 64x107"
    )
    assert "with " in repr(detector)
    assert repr(detector).endswith(f"{count:.1f} million parameters; cpu)")


def test_keys_of_all_sections_are_arguments(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    detector.train(coco_folder, tmp_path, epochs=1, flips=["vertical"], box_weight=3.0, settings={"train.lr": 0.5})
    config = Detector.from_pretrained(tmp_path, "cpu").config
    assert (config.train.epochs, config.data.flips, config.loss.box_weight) == (1, ("vertical",), 3.0)
    assert config.train.lr == 0.5
    plan = detector.dry_run(coco_folder, epochs=3, resolution=64)
    assert plan["steps"] == 6
    with pytest.raises(UsageError, match="data set is missing; name its folder with data"):
        detector.train()


def test_predictions_follow_changed_weights(small_config: Config) -> None:
    detector = Detector(small_config, device="cpu")
    image = np.zeros((48, 48, 3), dtype=np.uint8)
    before = detector.predict(image, threshold=0.0)
    prepared = detector._prepared.of(detector.model)
    again = detector.predict(image, threshold=0.0)
    assert detector._prepared.of(detector.model) is prepared
    np.testing.assert_array_equal(again.xyxy, before.xyxy)
    with torch.no_grad():
        detector.model.heads.box_head.layers[-1].bias.add_(1.0)
    changed = detector.predict(image, threshold=0.0)
    assert not np.array_equal(changed.xyxy, before.xyxy)


def test_a_budget_finds_with_a_part_of_the_queries(detector: Detector, image: np.ndarray) -> None:
    found = detector.predict(image, threshold=0.0, anchors=4, patterns=[1])
    assert len(found) == 4 * 3
    assert set(found.pattern_id) == {1}
    kept = apply_budget(detector.model, Budget(anchors=4)).queries.anchors
    anchors = detector.model.queries.anchors.points.detach()[kept].numpy() * (70, 50)
    distance = np.abs(found.anchor_xy[:, None] - anchors[None]).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-3
    assert set(distance.argmin(axis=1)) == {0, 1, 2, 3}
    for budget in ({}, {"layers": 2, "anchors": 9, "patterns": 2}):
        whole = detector.predict([image], threshold=0.0, **budget)[0]
        np.testing.assert_array_equal(whole.xyxy, detector.predict(image, threshold=0.0).xyxy)
    with pytest.raises(UsageError, match="layers is 7; this model has 2"):
        detector.predict(image, layers=7)


def test_budgets_take_turns_and_follow_changed_weights(detector: Detector, image: np.ndarray) -> None:
    budgets = ({}, {"layers": 1}, {"anchors": 3, "patterns": 1})
    alone = []
    for budget in budgets:
        detector._prepared.drop()
        alone.append(detector.predict(image, 0.0, **budget))
    for _ in range(2):
        for budget, expected in zip(budgets, alone, strict=True):
            np.testing.assert_array_equal(detector.predict(image, 0.0, **budget).xyxy, expected.xyxy)
    copies = [detector._prepared.of(detector.model, Budget(**budget)) for budget in budgets]
    assert len({id(copy) for copy in copies}) == 3
    pointers = [{name: value.data_ptr() for name, value in copy.named_parameters()} for copy in copies]
    shared = [name for name in pointers[0] if name.startswith(("backbone.", "encoder."))]
    assert shared
    assert all(len({addresses[name] for addresses in pointers}) == 1 for name in shared)
    with torch.no_grad():
        detector.model.queries.anchors.points.copy_(detector.model.queries.anchors.points.flip(1) ** 2)
    for budget, expected in zip(budgets, alone, strict=True):
        changed = detector.predict(image, 0.0, **budget)
        assert changed.xyxy.shape == expected.xyxy.shape
        assert not np.array_equal(changed.xyxy, expected.xyxy)
        detector._prepared.drop()
        np.testing.assert_array_equal(detector.predict(image, 0.0, **budget).xyxy, changed.xyxy)


def test_an_evaluation_within_a_budget_uses_no_more(detector: Detector, coco_folder: Path) -> None:
    detector.class_names = ["circle", "rectangle", "triangle"]
    whole = detector.evaluate(coco_folder)
    assert detector.evaluate(coco_folder, anchors=9, patterns=(0, 1), layers=2) == whole
    seen = []
    prepared = detector._prepared.of(detector.model, Budget(5, [1], 1))
    prepared.register_forward_hook(lambda model, inputs, predictions: seen.append(predictions.logits.shape))
    detector.evaluate(coco_folder, anchors=5, patterns=[1], layers=1)
    assert {(shape[0], shape[2]) for shape in seen} == {(1, 5)}
    assert not detector.model.training


def test_evaluate_measures_what_predict_returns(detector: Detector, coco_folder: Path) -> None:
    detector.class_names, detector.category_ids = ["circle", "rectangle", "triangle"], [3, 7, 20]
    val_set = open_dataset(coco_folder, "val")
    rows = []
    for index, found in enumerate(detector.predict(coco_folder / "val", threshold=0.0)):
        rows.append(coco_rows(index, found.xyxy, found.confidence, found.class_id))
    detector.config = detector.config.updated({"train.precision": "bf16"})  # of training alone
    assert detector.evaluate(coco_folder) == coco_metrics(val_set, np.concatenate(rows))


def test_the_seed_decides_the_starting_weights(small_config: Config) -> None:
    first, again = (Detector(small_config, device="cpu").model.state_dict() for _ in range(2))
    assert_same_tensors(first, again)
    other = Detector(small_config.updated({"train.seed": 1}), device="cpu").model.state_dict()
    assert not torch.equal(first["heads.class_head.weight"], other["heads.class_head.weight"])


def test_thousands_of_classes_are_counted_in_messages(
    small_config: Config, coco_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector = Detector(small_config, [f"class {number}" for number in range(1000)], device="cpu")
    with pytest.raises(InputError, match="this detector has 1000 classes") as refused:
        detector.evaluate(coco_folder)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("names", [{"cat"}, ["cat", ""], ["cat", "cat"], "cat", [1]])
def test_class_names_that_cannot_be_are_refused(names: Any, small_config: Config) -> None:
    with pytest.raises(UsageError, match="class_names"):
        Detector(small_config, names, device="cpu")


def test_a_detector_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="preset's name or a Config, not from a NoneType"):
        Detector(None)  # type: ignore[arg-type]
    for source in (None, "", " "):
        with pytest.raises(InputError, match="no name of a model"):
            Detector.from_pretrained(source)  # type: ignore[arg-type]

"""What training and evaluation make of annotations and images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.criterion import build_criterion
from anchordetr.data.images import load_image
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.loader import TrainCollate, TrainSamples
from anchordetr.data.transforms import train_transform
from anchordetr.errors import InputError
from anchordetr.evaluation.coco import coco_metrics, coco_rows
from anchordetr.types import Predictions

Changed = Callable[..., Path]


def perfect_rows(dataset: Any, keep_crowds: bool = False) -> np.ndarray:
    rows = []
    for index in range(len(dataset)):
        record = dataset.annotations[index]
        wanted = slice(None) if keep_crowds else ~record.crowd
        xyxy = np.concatenate([record.boxes[:, :2], record.boxes[:, :2] + record.boxes[:, 2:]], axis=1)[wanted]
        rows.append(coco_rows(record.image_id, xyxy, np.ones(len(xyxy)), record.labels[wanted], dataset.category_ids))
    return np.concatenate(rows)


def test_the_annotation_id_zero_is_renumbered_and_counts(changed: Changed) -> None:
    """pycocotools takes a match with the id 0 for none: perfect detections would miss recall."""

    def change(content: dict[str, Any]) -> None:
        for number, annotation in enumerate(content["annotations"]):
            annotation["id"] = number

    dataset = open_dataset(changed(change), "val")
    assert min(annotation["id"] for annotation in dataset.ground_truth()["annotations"]) == 1
    assert coco_metrics(dataset, perfect_rows(dataset)).ar_100 == 1.0


def test_categories_with_gaps_are_remapped_and_inverted_on_output(coco_folder: Path) -> None:
    dataset = open_dataset(coco_folder, "val")
    assert set(np.unique(dataset.annotations.labels)) == {0, 1, 2}
    rows = perfect_rows(dataset)
    assert set(rows[:, 6]) == {3, 7, 20}
    assert coco_metrics(dataset, rows).ap == pytest.approx(1.0)


def test_an_image_without_annotations_is_a_negative(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 2]

    dataset = open_dataset(changed(change), "val")
    assert len(dataset) == 4
    image, target, image_id = TrainSamples(dataset, train_transform((48,), 96, True, ["horizontal"]), seed=0)[(0, 0, 1)]
    assert image_id == 2
    assert target.boxes.shape == (0, 4)
    assert target.labels.dtype == torch.int64
    assert image.shape[0] == 3


def test_a_batch_of_negatives_has_a_finite_loss(changed: Changed) -> None:
    dataset = open_dataset(changed(lambda content: content["annotations"].clear()), "val")
    samples = TrainSamples(dataset, train_transform((48,), 96, True, ["horizontal"]), seed=0)
    batch = TrainCollate([0.5] * 3, [0.5] * 3)([samples[(0, 0, index)] for index in range(4)])
    logits = torch.randn(2, 4, 5, 3)
    predictions = Predictions(logits, torch.rand(2, 4, 5, 4), torch.rand(4, 5, 2), num_anchors=5)
    losses = build_criterion(3)(predictions, batch.targets)
    assert torch.isfinite(losses.total)
    assert losses.terms["box"] == losses.terms["giou"] == 0


def test_detections_inside_a_crowd_are_neither_right_nor_wrong(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            if annotation["image_id"] == 2:
                annotation |= {"iscrowd": 1, "category_id": 3}

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.crowd.any()
    without, inside = perfect_rows(dataset), perfect_rows(dataset, keep_crowds=True)
    assert len(inside) > len(without)
    assert coco_metrics(dataset, inside) == coco_metrics(dataset, without)
    assert coco_metrics(dataset, inside).ap == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(1, 300), (300, 1)])
def test_an_image_of_one_pixel_width_keeps_its_sides(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    Image.new("RGB", size).save(tmp_path / "train" / "thin.png")
    content = {
        "images": [{"id": 1, "file_name": "thin.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, *size]}],
        "categories": [{"id": 1, "name": "line"}],
    }
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    samples = TrainSamples(open_dataset(tmp_path, "train"), train_transform((32, 48), 96, True, ["horizontal"]), seed=0)
    for epoch in range(10):
        image, target, _ = samples[(epoch, epoch, 0)]
        assert min(image.shape) >= 1
        assert torch.isfinite(target.boxes).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1"])
def test_training_and_prediction_read_the_same_pixels(mode: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    values = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    drawn = (
        Image.fromarray(values) if mode == "I;16" else Image.fromarray((values // 256).astype(np.uint8)).convert(mode)
    )
    exif = Image.Exif()
    exif[0x0112] = 8
    name = "x.jpg" if mode == "CMYK" else "x.png"
    drawn.save(tmp_path / "val" / name, exif=exif)
    content = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path, "val")
    assert torch.equal(dataset.image(0), load_image(tmp_path / "val" / name))
    assert dataset.image(0).shape == (3, 30, 20)


def test_an_image_of_another_size_than_annotated_is_refused(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 128}

    dataset = open_dataset(changed(change), "val")
    with pytest.raises(InputError, match=r"shapes_val_00000\.png is 64x64 pixels upright, its annotations say 128x64"):
        dataset.image(0)


@pytest.mark.parametrize("layout", ["roboflow", "yolo", "voc"])
def test_results_carry_the_ids_and_names_of_the_data_set(
    layout: str, request: pytest.FixtureRequest, small_config: Config, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"{layout}_folder")
    detector = Detector(small_config, device="cpu")
    detector.train(folder, tmp_path / "run", epochs=1)
    ids = dict(zip(open_dataset(folder, "val").category_ids, ("circle", "rectangle", "triangle"), strict=True))
    images = sorted(folder.rglob("shapes_val_*.png"))[:2]
    for found in Detector.from_pretrained(tmp_path / "run", device="cpu").predict_each(images, threshold=0.0):
        pairs = set(zip(found.data["category_id"].tolist(), found.data["class_name"].tolist(), strict=True))
        assert pairs <= set(ids.items())
        assert {result["category_id"] for result in found.to_coco(1)} <= set(ids)
    assert detector.evaluate(folder).per_class.keys() == set(ids.values())

"""Training and evaluation batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from anchordetr.criterion import build_criterion
from anchordetr.data.dataset import AnnotationTable, DetectionDataset, ImageRecord
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.data.loader import EpochBatches, TrainCollate, TrainSamples, train_loader
from anchordetr.data.transforms import ResizeShortSide, train_transform
from anchordetr.profiling.loader import measure_loader
from anchordetr.types import Predictions

Changed = Callable[..., Path]
NORMAL = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_batches_depend_only_on_seed_and_epoch() -> None:
    dataset = ShapesDataset("train", 10)
    transform = train_transform((64, 96), 160, True, ["horizontal"])

    def epoch_of(workers: int, epoch: int) -> list[torch.Tensor]:
        batches = EpochBatches(len(dataset), 4, seed=3)
        batches.epoch = epoch
        loader = train_loader(TrainSamples(dataset, transform, 3), NORMAL, batches, workers=workers, pin_memory=False)
        return [batch.images.pixels for batch in loader]

    reference = epoch_of(0, 2)
    assert len(reference) == 2
    assert all(torch.equal(a, b) for a, b in zip(reference, epoch_of(2, 2), strict=True))
    assert not torch.equal(reference[0][..., :64, :64], epoch_of(0, 1)[0][..., :64, :64])


def test_crowds_are_not_targets() -> None:
    dataset = ShapesDataset("train", 1)
    dataset.annotations.crowd[0] = True
    _, target, _ = TrainSamples(dataset, ResizeShortSide(64, 96), seed=0)[(0, 0, 0)]
    assert len(target.labels) == len(dataset.annotations[0].labels) - 1


def test_batches_of_similar_aspect_ratios_have_little_padding() -> None:
    """Images of three aspect ratios, resized, cropped and padded as in the paper's recipe, at a fifth of the size."""
    generator = np.random.default_rng(0)
    sizes = np.array([(96, 128), (128, 96), (100, 100)])[generator.integers(3, size=400)]
    no_objects = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_))
    records = [
        ImageRecord(index, str(index), int(height), int(width), *no_objects)
        for index, (height, width) in enumerate(sizes)
    ]

    class BlankImages(DetectionDataset):
        def image(self, index: int) -> torch.Tensor:
            return torch.zeros(3, *sizes[index], dtype=torch.uint8)

    dataset = BlankImages()
    dataset.annotations = AnnotationTable.of(records)
    transform = train_transform([96, 112, 128, 144, 160], 266, True, ["horizontal"])

    def padding(ratios: np.ndarray | None) -> float:
        order = EpochBatches(len(dataset), 8, seed=0, ratios=ratios)
        assert sorted(key[2] for keys in order for key in keys) == list(range(400))
        loader = train_loader(TrainSamples(dataset, transform, 0), NORMAL, order, workers=0, pin_memory=False)
        return measure_loader(loader, 40).padded_share

    assert padding(dataset.annotations.ratios) < 0.1
    assert padding(None) > 0.1


def test_images_of_a_batch_share_their_random_size() -> None:
    dataset = ShapesDataset("train", 2, size=96)
    samples = TrainSamples(dataset, train_transform(range(64, 128), 300, True, ["horizontal"]), seed=0)
    for step in range(6):
        first, second = (samples[(0, step, index)][0] for index in range(2))
        assert first.shape == second.shape
    heights = {samples[(0, step, 0)][0].shape for step in range(12)}
    assert len(heights) > 6


def test_an_image_without_annotations_has_an_empty_target(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 2]

    dataset = open_dataset(changed(change), "val")
    assert len(dataset) == 4
    image, target, image_id = TrainSamples(dataset, train_transform((48,), 96, True, ["horizontal"]), seed=0)[(0, 0, 1)]
    assert image_id == 2
    assert target.boxes.shape == (0, 4)
    assert target.labels.dtype == torch.int64
    assert image.shape[0] == 3


def test_a_batch_of_images_without_objects_has_a_finite_loss(changed: Changed) -> None:
    dataset = open_dataset(changed(lambda content: content["annotations"].clear()), "val")
    samples = TrainSamples(dataset, train_transform((48,), 96, True, ["horizontal"]), seed=0)
    batch = TrainCollate([0.5] * 3, [0.5] * 3)([samples[(0, 0, index)] for index in range(4)])
    logits = torch.randn(2, 4, 5, 3)
    predictions = Predictions(logits, torch.rand(2, 4, 5, 4), torch.rand(4, 5, 2), num_anchors=5)
    losses = build_criterion(3)(predictions, batch.targets)
    assert torch.isfinite(losses.total)
    assert losses.terms["box"] == losses.terms["giou"] == 0


@pytest.mark.parametrize("size", [(1, 300), (300, 1)])
def test_an_image_of_one_pixel_width_is_resized(size: tuple[int, int], tmp_path: Path) -> None:
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


@pytest.mark.slow
def test_spawned_workers_load_the_same_batches(coco_folder: Any) -> None:
    samples = TrainSamples(open_dataset(coco_folder, "train"), ResizeShortSide(64, 96), seed=0)
    keys = [(0, 0, index) for index in range(8)]
    loader = DataLoader(samples, sampler=keys, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    for (image, target, image_id), key in zip(loader, keys, strict=True):
        expected = samples[key]
        assert torch.equal(image, expected[0])
        assert torch.equal(target.boxes, expected[1].boxes)
        assert image_id == expected[2]

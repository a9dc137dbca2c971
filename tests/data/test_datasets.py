"""Layouts, annotations and batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from anchordetr.data.dataset import AnnotationTable, DetectionDataset, ImageRecord
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.data.loader import EpochBatches, TrainSamples, train_loader
from anchordetr.data.transforms import ResizeShortSide, resized_size, train_transform
from anchordetr.profiling.loader import measure_loader

NORMAL = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_coco_is_recognised_and_keeps_its_ids(coco_folder: Path) -> None:
    dataset = open_dataset(coco_folder, "train")
    assert len(dataset) == 8
    assert dataset.class_names == ["circle", "rectangle", "triangle"]
    assert dataset.category_ids == [3, 7, 20]
    original = json.loads((coco_folder / "annotations" / "instances_train.json").read_text())
    assert dataset.ground_truth() == original
    assert dataset.image(0).shape == (3, 64, 64)


def test_shapes_depend_on_seed_split_and_number_alone() -> None:
    few, many = ShapesDataset("train", 3), ShapesDataset("train", 6)
    assert torch.equal(few.image(2), many.image(2))
    assert np.array_equal(few.annotations[2].boxes, many.annotations[2].boxes)
    assert not torch.equal(few.image(2), ShapesDataset("val", 3).image(2))
    assert not torch.equal(few.image(2), ShapesDataset("train", 3, seed=1).image(2))


def test_shapes_overlap_and_stay_inside() -> None:
    dataset = ShapesDataset("train", 100)
    shared = 0
    for index in range(100):
        boxes = dataset.annotations[index].boxes
        assert 1 <= len(boxes) <= 5
        assert (boxes[:, :2] >= -1e-3).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= 64 + 1e-3).all()
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        distances = np.abs(centres[:, None] - centres[None]).max(axis=-1) + 1e3 * np.eye(len(boxes))
        shared += int((distances.min() < 1) if len(boxes) > 1 else 0)
    assert shared > 20
    areas = np.sqrt(dataset.annotations.areas)
    assert areas.min() < 10
    assert areas.max() > 35


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1067)), ((400, 1200), (444, 1333)), ((1, 5000), (1, 1333)), ((5000, 1), (1333, 1))],
)
def test_resized_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, short_side=800, long_side=1333) == expected


def test_boxes_follow_the_image_through_the_augmentation() -> None:
    """A box drawn as a white rectangle must still hold the white pixels after flip, crop and resize."""
    dataset = ShapesDataset("train", 1, size=96)
    drawn = torch.zeros(3, 96, 96, dtype=torch.uint8)
    drawn[:, 30:60, 20:70] = 255
    dataset.image = lambda index: drawn  # type: ignore[method-assign]
    dataset.annotations.boxes[:] = (20, 30, 50, 30)
    samples = TrainSamples(dataset, train_transform((64, 96, 128), 160, True, ["horizontal", "vertical"]), seed=0)
    for epoch in range(30):
        image, target, _ = samples[(epoch, epoch, 0)]
        white = (image[0] > 127).nonzero()
        if not len(target.boxes):
            continue
        height, width = image.shape[1:]
        cx, cy, w, h = target.boxes[0].tolist()
        box = [(cy - h / 2) * height, (cx - w / 2) * width, (cy + h / 2) * height, (cx + w / 2) * width]
        shown = [*white.amin(0).tolist(), *(white.amax(0) + 1).tolist()]
        assert box == pytest.approx(shown, abs=1.5)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    dataset = ShapesDataset("train", 10)
    transform = train_transform((64, 96), 160, True, ["horizontal"])

    def epoch_of(workers: int, epoch: int) -> list[torch.Tensor]:
        batches = EpochBatches(len(dataset), 4, seed=3)
        batches.epoch = epoch
        loader = train_loader(dataset, transform, NORMAL, batches, workers=workers, pin_memory=False)
        return [batch.images.pixels for batch in loader]

    reference = epoch_of(0, 2)
    assert len(reference) == 2
    assert all(torch.equal(a, b) for a, b in zip(reference, epoch_of(2, 2), strict=True))
    assert not torch.equal(reference[0][..., :64, :64], epoch_of(0, 1)[0][..., :64, :64])


def test_crowds_are_no_targets() -> None:
    dataset = ShapesDataset("train", 1)
    dataset.annotations.crowd[0] = True
    _, target, _ = TrainSamples(dataset, ResizeShortSide([64], 96), seed=0)[(0, 0, 0)]
    assert len(target.labels) == len(dataset.annotations[0].labels) - 1


def test_batches_hold_images_of_like_shape_and_little_padding() -> None:
    """Photographs of three shapes, resized, cropped and padded as in the paper's recipe, at a fifth of the size."""
    generator = np.random.default_rng(0)
    sizes = np.array([(96, 128), (128, 96), (100, 100)])[generator.integers(3, size=400)]
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_))
    records = [
        ImageRecord(index, str(index), int(height), int(width), *nothing) for index, (height, width) in enumerate(sizes)
    ]

    class Photographs(DetectionDataset):
        def image(self, index: int) -> torch.Tensor:
            return torch.zeros(3, *sizes[index], dtype=torch.uint8)

    dataset = Photographs()
    dataset.annotations = AnnotationTable.of(records)
    transform = train_transform([96, 112, 128, 144, 160], 266, True, ["horizontal"])

    def padding(ratios: np.ndarray | None) -> float:
        order = EpochBatches(len(dataset), 8, seed=0, ratios=ratios)
        assert sorted(key[2] for keys in order for key in keys) == list(range(400))
        loader = train_loader(dataset, transform, NORMAL, order, workers=0, pin_memory=False)
        return measure_loader(loader, 40).padded_share

    assert padding(dataset.annotations.ratios) < 0.1
    assert padding(None) > 0.1


def test_images_of_a_batch_share_the_draws_of_their_size_alone() -> None:
    dataset = ShapesDataset("train", 2, size=96)
    samples = TrainSamples(dataset, train_transform(range(64, 128), 300, True, ["horizontal"]), seed=0)
    for step in range(6):
        first, second = (samples[(0, step, index)][0] for index in range(2))
        assert first.shape == second.shape
    heights = {samples[(0, step, 0)][0].shape for step in range(12)}
    assert len(heights) > 6

"""Color jitter, large-scale jitter, mosaics and mixtures: boxes stay on their objects, and samples are repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert

from anchordetr.config import DataConfig
from anchordetr.data.dataset import AnnotationTable, DetectionDataset, ImageRecord
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.data.loader import EpochBatches, TrainSamples, train_loader, train_samples
from anchordetr.data.mixing import mixup, mosaic
from anchordetr.data.transforms import random_window
from anchordetr.errors import InputError
from anchordetr.types import Target

COLORS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]])
SIZES = [(120, 160), (160, 120), (100, 200), (140, 140), (90, 120), (200, 180)]
GREY = 100
EVERYTHING = {"color_jitter": 0.5, "random_scale": 0.5, "mosaic": 0.5, "mixup": 0.5}


class Rectangles(DetectionDataset):
    """Six grey images, each with two rectangles in a color that is its class; a crowd covers each as a whole."""

    def __init__(self) -> None:
        self.class_names = [str(number) for number in range(len(COLORS))]
        self.category_ids = list(range(len(COLORS)))
        self.annotations = AnnotationTable.of([self._record(index) for index in range(len(SIZES))])

    def _record(self, index: int) -> ImageRecord:
        height, width = SIZES[index]
        boxes = np.array([(10, 12, 40, 30), (width - 60, height - 40, 50, 32), (0, 0, width, height)], np.float32)
        areas = boxes[:, 2:].prod(axis=1)
        crowd = np.array([False, False, True])
        return ImageRecord(index + 1, f"{index}.png", height, width, boxes, np.full(3, index), areas, crowd)

    def image(self, index: int) -> Tensor:
        image = torch.full((3, *SIZES[index]), GREY, dtype=torch.uint8)
        for x, y, width, height in self.annotations[index].boxes[:2].astype(int):
            image[:, y : y + height, x : x + width] = COLORS[index][:, None, None]
        return image


def settings(**values: object) -> DataConfig:
    return DataConfig.model_validate({"train_short_sides": [256], "long_side": 640, "crop": False, **values})


def drawn_samples(number: int, **values: object) -> Iterator[tuple[Tensor, Target]]:
    samples = train_samples(Rectangles(), settings(**values), seed=0)
    for key in range(number):
        image, target, image_id = samples[(key, key, key % len(SIZES))]
        assert image.dtype == torch.uint8
        assert image_id == key % len(SIZES) + 1
        yield image, target


def colored(image: Tensor, label: int, tolerance: float) -> Tensor:
    """Return where an image (3, H, W) has the color of a class, (H, W)."""
    return ((image.float() - COLORS[label][:, None, None]).abs() < tolerance).all(dim=0)


def corners(target: Target, image: Tensor) -> Tensor:
    """Return the boxes (n, 4) x1, y1, x2, y2 in pixels."""
    height, width = image.shape[1:]
    cx, cy, w, h = (target.boxes * torch.tensor([width, height, width, height])).unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)


def check_boxes(image: Tensor, target: Target, tolerance: float = 60.0) -> None:
    """Check that each box is full of its color, ends where the color ends, and lies inside of the image."""
    height, width = image.shape[1:]
    boxes = corners(target, image)
    assert (boxes >= -1e-3).all()
    assert (boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()
    for box, label in zip(boxes, target.labels.tolist(), strict=True):
        where = colored(image, label, tolerance)
        x1, y1, x2, y2 = box.round().int().tolist()
        inner = where[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
        assert inner.numel() == 0 or inner.float().mean() > 0.98
        outer = torch.zeros_like(where)
        outer[max(y1 - 3, 0) : y2 + 3, max(x1 - 3, 0) : x2 + 3] = True
        outer[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = False
        assert (where & outer).sum() == 0


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"random_scale": 0.6}, id="random scale"),
        pytest.param({"mosaic": 1.0}, id="mosaic"),
        pytest.param({"mosaic": 1.0, "random_scale": 0.3, "flips": ["horizontal", "vertical"]}, id="mosaic and scale"),
        pytest.param({"color_jitter": 0.0}, id="none"),
    ],
)
def test_boxes_enclose_their_objects(values: dict[str, object]) -> None:
    objects = 0
    for image, target in drawn_samples(36, **values):
        check_boxes(image, target)
        objects += len(target.labels)
    assert objects > 36


def test_objects_without_a_box_are_mostly_hidden() -> None:
    """What is left of a rectangle without a box is less than the part that makes it a target."""
    for image, target in drawn_samples(36, random_scale=0.6):
        for label in range(len(COLORS)):
            shown = int(colored(image, label, 60).sum())
            boxes = corners(target, image)[target.labels == label]
            in_boxes = float((boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sum())
            scale = max(image.shape[1:]) / min(map(max, SIZES)) / (1 - 0.6)
            assert shown - in_boxes < 0.25 * 50 * 32 * scale**2


def test_large_scale_jitter_scales_in_both_directions_and_keeps_the_size() -> None:
    areas = []
    for image, target in drawn_samples(60, random_scale=0.5, flips=[]):
        height, width = image.shape[1:]
        assert min(height, width) == 256
        areas += (target.boxes[:, 2:].prod(dim=1) * height * width / 256**2).tolist()
    expected = [(w * h) / min(size) ** 2 for size in SIZES for w, h in ((40, 30), (50, 32))]
    assert min(areas) < 0.4 * min(expected)
    assert max(areas) > 1.4 * max(expected)


def test_a_smaller_image_lies_on_its_mean_color() -> None:
    samples = train_samples(Rectangles(), settings(random_scale=0.6, flips=[]), seed=0)
    mean = Rectangles().image(3).float().mean(dim=(1, 2))
    filled = [
        image[:, 0, 0].float()
        for epoch in range(12)
        if (image := samples[(epoch, epoch, 3)][0])[0, 0, 0] != GREY and not (image[:, 0, 0] == COLORS[3]).all()
    ]
    assert filled
    assert all(torch.allclose(color, mean, atol=1.5) for color in filled)


def test_a_box_that_loses_most_of_its_area_is_no_target() -> None:
    dataset = Rectangles()
    dataset.annotations.boxes[:] = (0, 0, 40, 40)
    dataset.annotations.boxes[1] = (60, 50, 20, 10)
    sample = TrainSamples(dataset, lambda sample: sample, 0)._sample(0)
    for _ in range(50):
        window = random_window(sample, (60, 80))
        for box, area in zip(window["boxes"], (1600, 200), strict=False):
            assert box[2:].prod() >= 0.25 * (area if len(window["boxes"]) == 2 else 200)
        assert window["image"].shape == (3, 60, 80)
        assert len(window["boxes"]) == len(window["labels"])
        assert window["boxes"].canvas_size == (60, 80)
    counts = {len(random_window(sample, (60, 80))["boxes"]) for _ in range(50)}
    assert counts >= {1, 2}


def test_a_mosaic_has_four_images_and_the_ratio_of_the_first() -> None:
    dataset = Rectangles()
    samples = [TrainSamples(dataset, lambda sample: sample, 0)._sample(index) for index in range(4)]
    seen: set[int] = set()
    for _ in range(10):
        combined = mosaic(samples[0], samples[1:], short_side=240)
        assert combined["image"].shape == (3, 240, 320)
        assert combined["boxes"].canvas_size == (240, 320)
        seen |= set(combined["labels"].tolist())
    assert seen == {0, 1, 2, 3}
    assert mosaic(samples[0], samples[1:], short_side=90)["image"].shape == (3, 90, 120)
    assert mosaic(samples[0], samples[1:], short_side=800)["image"].shape == (3, 240, 320)  # not enlarged


@pytest.mark.parametrize("colored_first", [True, False])
def test_a_mixture_shows_the_boxes_of_either_image(colored_first: bool) -> None:
    samples = TrainSamples(Rectangles(), lambda sample: sample, 0)
    objects, black = samples._sample(0), samples._sample(1)
    black = {**black, "image": torch.zeros_like(black["image"]), "boxes": black["boxes"][:0], "labels": torch.zeros(0)}
    for _ in range(10):
        mixed = mixup(objects, black) if colored_first else mixup(black, objects)
        assert mixed["image"].shape == (objects if colored_first else black)["image"].shape
        assert 0.4 * 255 - 1 <= mixed["image"].max() <= 0.6 * 255 + 1
        height, width = mixed["image"].shape[1:]
        boxes = box_convert(mixed["boxes"].as_subclass(Tensor), "xywh", "cxcywh")
        target = Target(boxes / torch.tensor([width, height, width, height]), mixed["labels"].long())
        check_boxes(mixed["image"] * (255 / mixed["image"].max()), target)
        assert len(target.labels) == 2 or not colored_first


def test_a_mixture_has_the_objects_of_both_images() -> None:
    samples = TrainSamples(Rectangles(), lambda sample: sample, 0)
    mixtures = [mixup(samples._sample(0), samples._sample(1)) for _ in range(10)]
    assert all(mixed["labels"][:2].tolist() == [0, 0] for mixed in mixtures)
    assert {label for mixed in mixtures for label in mixed["labels"][2:].tolist()} == {1}


def test_jitter_changes_colors_and_no_boxes() -> None:
    plain = list(drawn_samples(6))
    for strength, least, most in ((0.2, 1, 40), (1.0, 8, 160)):
        jittered = list(drawn_samples(6, color_jitter=strength))
        changes = []
        for (image, target), (other, same) in zip(plain, jittered, strict=True):
            assert torch.equal(target.boxes, same.boxes)
            changes.append(float((image.float() - other.float()).abs().mean()))
        assert least < np.mean(changes) < most


@pytest.mark.parametrize("name", list(EVERYTHING))
def test_each_setting_changes_samples_and_a_probability_only_some(name: str) -> None:
    values = {"flips": [], name: EVERYTHING[name]}
    changed = [
        not torch.equal(plain, image)
        for (plain, _), (image, _) in zip(drawn_samples(24, flips=[]), drawn_samples(24, **values), strict=True)
    ]
    assert sum(changed) > 6
    assert all(changed) == (name in ("color_jitter", "random_scale"))


def test_samples_depend_on_seed_epoch_and_image_alone() -> None:
    def epoch(workers: int) -> list[Tensor]:
        samples = train_samples(ShapesDataset("train", 8), settings(train_short_sides=[48, 64], **EVERYTHING), seed=5)
        order = EpochBatches(8, 4, seed=5)
        order.epoch = 1
        loader = train_loader(samples, ((0.5,) * 3, (0.25,) * 3), order, workers=workers, pin_memory=False)
        return [batch.images.pixels for batch in loader]

    torch.manual_seed(1)
    first = epoch(0)
    torch.manual_seed(2)
    assert all(torch.equal(one, two) for one, two in zip(first, epoch(2), strict=True))


def test_a_broken_image_of_a_mosaic_is_named(coco_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(coco_folder, "train")
    samples = train_samples(dataset, settings(mosaic=1.0), seed=0)
    read = type(dataset).image

    def image(self: DetectionDataset, index: int) -> Tensor:
        if index == 5:
            raise InputError("shapes_train_00005.png cannot be read")
        return read(self, index)

    monkeypatch.setattr(type(dataset), "image", image)
    with pytest.raises(InputError, match="shapes_train_00005"):
        list(map(samples.__getitem__, [(0, 0, index) for index in range(5)]))

"""From a data set to training batches. A batch depends on the seed, the epoch and its number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.ops import box_convert
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.transforms import prepare_image
from anchordetr.types import ImageBatch, Target, pad_and_stack


class EvalBatch(NamedTuple):
    """What the evaluator gets: prepared pictures, and which records of the data set they are."""

    images: list[Tensor]
    indices: list[int]


class TrainBatch(NamedTuple):
    """What the trainer gets: pictures, their objects and the pictures' ids."""

    images: ImageBatch
    targets: list[Target]
    image_ids: list[int]

    def pin_memory(self) -> TrainBatch:
        """Return the batch in page-locked memory (called by the data loader)."""
        return TrainBatch(self.images.pin_memory(), [target.pin_memory() for target in self.targets], self.image_ids)


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Shuffled batches of (epoch, index); the last, smaller batch of an epoch is left out.

    Args:
        length: of the data set. batch_size: pictures of a batch, reduced to ``length`` if that is smaller.
        seed: of the shuffling.
    """

    def __init__(self, length: int, batch_size: int, seed: int) -> None:
        self.length = length
        self.batch_size = min(batch_size, length)
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield [(self.epoch, int(index)) for index in order[start : start + self.batch_size]]


class TrainSamples(Dataset[tuple[Tensor, Target, int]]):
    """Augmented pictures; the random numbers of a sample come from (seed, epoch, index), whatever worker makes it."""

    def __init__(self, dataset: DetectionDataset, transform: v2.Transform, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Target, int]:
        epoch, index = key
        record = self.dataset.annotations[index]
        keep = ~record.crowd
        size = (record.height, record.width)
        sample = {
            "image": Image(self.dataset.image(index)),
            "boxes": BoundingBoxes(record.boxes[keep], format=BoundingBoxFormat.XYWH, canvas_size=size),
            "labels": torch.from_numpy(record.labels[keep]),
        }
        with torch.random.fork_rng(devices=[]):
            seed = np.random.SeedSequence((self.seed, epoch, index)).generate_state(1)[0]
            torch.default_generator.manual_seed(int(seed))
            sample = self.transform(sample)
        height, width = sample["image"].shape[-2:]
        boxes = box_convert(sample["boxes"].as_subclass(Tensor).float(), "xywh", "cxcywh")
        boxes /= torch.tensor([width, height, width, height])
        return sample["image"].as_subclass(Tensor), Target(boxes, sample["labels"]), record.image_id


class TrainCollate:
    """Pads the uint8 pictures of a batch to one size and normalises them together; padding is zero afterwards.

    Args:
        mean, std: of the backbone's pictures, per channel.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = torch.tensor(mean).view(3, 1, 1) * 255
        self.std = torch.tensor(std).view(3, 1, 1) * 255

    def __call__(self, samples: Sequence[tuple[Tensor, Target, int]]) -> TrainBatch:
        images, targets, image_ids = zip(*samples, strict=True)
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
        pixels = (pad_and_stack(images) - self.mean) / self.std
        for picture, (height, width) in zip(pixels, sizes, strict=True):
            picture[:, height:] = 0
            picture[:, :, width:] = 0
        return TrainBatch(ImageBatch(pixels, sizes), list(targets), list(image_ids))


def train_loader(
    dataset: DetectionDataset,
    transform: v2.Transform,
    normalisation: tuple[Sequence[float], Sequence[float]],
    batch_size: int,
    seed: int,
    workers: int,
    pin_memory: bool,
) -> DataLoader[Any]:
    """Return a loader of :class:`TrainBatch`; set ``loader.batch_sampler.epoch`` before each epoch.

    Args:
        transform: see :func:`~anchordetr.data.transforms.train_transform`.
        normalisation: mean and standard deviation of the backbone's pictures, per channel.
    """
    return DataLoader(
        TrainSamples(dataset, transform, seed),
        batch_sampler=EpochBatches(len(dataset), batch_size, seed),
        collate_fn=TrainCollate(*normalisation),
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
    )


class EvalSamples(Dataset[tuple[Tensor, int]]):
    """Prepared pictures in order of their size, so that most batches hold one size."""

    def __init__(self, dataset: DetectionDataset, transform: v2.Transform) -> None:
        self.dataset = dataset
        self.transform = transform
        self.order = np.lexsort(dataset.annotations.sizes.T)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        index = int(self.order[position])
        return prepare_image(self.dataset.image(index), self.transform), index


def collate_eval(samples: Sequence[tuple[Tensor, int]]) -> EvalBatch:
    """Keep pictures of a batch apart; the model groups them by size."""
    images, indices = zip(*samples, strict=True)
    return EvalBatch(list(images), list(indices))


def eval_loader(dataset: DetectionDataset, transform: v2.Transform, batch_size: int, workers: int) -> DataLoader[Any]:
    """Return a loader of :class:`EvalBatch`."""
    return DataLoader(
        EvalSamples(dataset, transform), batch_size=batch_size, collate_fn=collate_eval, num_workers=workers
    )

"""Data loaders for training and evaluation. A training batch depends only on the seed, the epoch and its index."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.ops import box_convert
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image

from anchordetr.config import DataConfig
from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.mixing import Mixing
from anchordetr.data.transforms import Normalise, Sample, prepare_image, train_transform
from anchordetr.errors import InputError, by_user, reason
from anchordetr.seeding import seed_of, seeded
from anchordetr.types import ImageBatch, Target, pad_and_stack

_SORTED_TOGETHER = 32  # batches whose images are sorted by aspect ratio
_SHAPES = 1  # separates the seeds of image sizes from those of images


class EvalBatch(NamedTuple):
    """A batch for evaluation: resized, normalised images and their rows in the data set."""

    images: list[Tensor]
    indices: list[int]


class TrainBatch(NamedTuple):
    """A batch for training: padded images, targets and image ids."""

    images: ImageBatch
    targets: list[Target]
    image_ids: list[int]

    def pin_memory(self) -> TrainBatch:
        """Return the batch in page-locked memory (called by the data loader)."""
        return TrainBatch(self.images.pin_memory(), [target.pin_memory() for target in self.targets], self.image_ids)


class EpochBatches(Sampler[list[tuple[int, int, int]]]):
    """A batch sampler of (epoch, step, index) keys, shuffled; the last, incomplete batch of an epoch is dropped.

    The images of an optimizer step do not depend on the number of processes and of accumulated batches. Images of
    similar aspect ratios are batched together, which reduces padding.

    Args:
        length: number of images of the data set.
        batch_size: images of an optimizer step, at most ``length``.
        seed: of the shuffling.
        share: rank of this process and number of processes.
        parts: number of batches in which a process gets its images of a step (gradient accumulation).
        ratios: height over width of each image; None to shuffle without sorting by aspect ratio.

    Attributes:
        epoch: the next epoch. start: its first step.

    Raises:
        InputError: the images of a step cannot be divided evenly among processes and parts.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
        parts: int = 1,
        ratios: NDArray[np.float64] | None = None,
    ) -> None:
        self.length = length
        self.batch_size = min(batch_size, length)
        self.seed = seed
        self.rank, self.ranks = share
        self.parts = parts
        self.ratios = ratios if ratios is not None and np.ptp(ratios) > 0 else None
        self.epoch = 0
        self.start = 0
        if self.batch_size % (self.ranks * parts):
            raise InputError(
                f"{self.batch_size} images of a step cannot be shared evenly by {self.ranks} processes in {parts} "
                f"parts; choose a multiple of {self.ranks * parts} for {by_user('--batch-size', 'batch_size')}."
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole epoch."""
        return self.length // self.batch_size

    def __len__(self) -> int:
        return (self.steps - self.start) * self.parts

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        order = self._order()
        size = self.batch_size // (self.ranks * self.parts)
        for step in range(self.start, self.steps):
            for part in range(self.parts):
                first = step * self.batch_size + (part * self.ranks + self.rank) * size
                yield [(self.epoch, step, int(index)) for index in order[first : first + size]]

    def _order(self) -> NDArray[np.int64]:
        """Return the shuffled images of the epoch, sorted by ratio within 32 batches, whose order is shuffled again."""
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(self.length)[: self.steps * self.batch_size]
        if self.ratios is None:
            return order
        span = _SORTED_TOGETHER * self.batch_size
        for start in range(0, len(order), span):
            part = order[start : start + span]
            order[start : start + span] = part[np.argsort(self.ratios[part], kind="stable")]
        return generator.permutation(order.reshape(-1, self.batch_size)).reshape(-1)


class TrainSamples(Dataset[tuple[Tensor, Target, int]]):
    """A data set of augmented training samples, indexed by (epoch, step, index), the same in any worker.

    The random numbers of an image are seeded with (seed, epoch, index), those of its size with (seed, epoch, step).

    Args:
        dataset: the training split.
        transform: from :func:`~anchordetr.data.transforms.train_transform`.
        seed: of the random numbers.
        mixing: combines an image with others before it is transformed.
    """

    def __init__(
        self, dataset: DetectionDataset, transform: v2.Transform, seed: int, mixing: Mixing | None = None
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.mixing = mixing or Mixing()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Target, int]:
        epoch, step, index = key
        shapes = torch.Generator().manual_seed(seed_of(self.seed, epoch, step, _SHAPES))
        sample = self._sample(index)
        with seeded(seed_of(self.seed, epoch, index)):
            sample = self.transform({**self.mixing(sample, self._random_sample), "shapes": shapes})
        height, width = sample["image"].shape[-2:]
        boxes = box_convert(sample["boxes"].as_subclass(Tensor).float(), "xywh", "cxcywh")
        boxes /= torch.tensor([width, height, width, height])
        image_id = int(self.dataset.annotations.image_ids[index])
        return sample["image"].as_subclass(Tensor), Target(boxes, sample["labels"]), image_id

    def _sample(self, index: int) -> Sample:
        """Return an image with the boxes and labels of its objects; crowds are no targets."""
        record = self.dataset.annotations[index]
        keep = ~record.crowd
        size = (record.height, record.width)
        return {
            "image": Image(self.dataset.image(index)),
            "boxes": BoundingBoxes(record.boxes[keep], format=BoundingBoxFormat.XYWH, canvas_size=size),
            "labels": torch.from_numpy(record.labels[keep]),
        }

    def _random_sample(self) -> Sample:
        return self._sample(int(torch.randint(len(self), (), device="cpu")))


def train_samples(dataset: DetectionDataset, settings: DataConfig, seed: int) -> TrainSamples:
    """Return the training samples of a data set, augmented as the configuration says."""
    transform = train_transform(
        settings.train_short_sides,
        settings.long_side,
        settings.crop,
        settings.flips,
        settings.color_jitter,
        settings.random_scale,
    )
    mixing = Mixing(settings.mosaic, settings.mixup, max(settings.train_short_sides))
    return TrainSamples(dataset, transform, seed, mixing)


class TrainCollate:
    """A collate function that pads uint8 images to one size and normalises them; padding is zero afterwards.

    Args:
        mean, std: per channel, of pixels in [0, 1].
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.normalise = Normalise(mean, std)

    def __call__(self, samples: Sequence[tuple[Tensor, Target, int]]) -> TrainBatch:
        images, targets, image_ids = zip(*samples, strict=True)
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
        pixels = self.normalise.pixels(pad_and_stack(images))
        for padded, (height, width) in zip(pixels, sizes, strict=True):
            padded[:, height:] = 0
            padded[:, :, width:] = 0
        return TrainBatch(ImageBatch(pixels, sizes), list(targets), list(image_ids))


def train_loader(
    samples: TrainSamples,
    normalisation: tuple[Sequence[float], Sequence[float]],
    batches: EpochBatches,
    workers: int,
    pin_memory: bool,
) -> DataLoader[Any]:
    """Return a loader of :class:`TrainBatch`; set ``batches.epoch`` and ``batches.start`` before each epoch.

    Args:
        samples: from :func:`train_samples`, with the seed of the batches.
        normalisation: mean and standard deviation per channel, of pixels in [0, 1].
        batches: the batch sampler.
        workers: number of worker processes, 0 to load in this process.
        pin_memory: copy batches to page-locked memory.
    """
    return DataLoader(
        samples,
        batch_sampler=batches,
        collate_fn=TrainCollate(*normalisation),
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),  # or the start of an epoch would draw from the caller's
    )


def batches_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield the batches of a loader.

    Raises:
        InputError: a worker process died; the message says what to try.
    """
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"A process that loads images died ({reason(error)}). The usual cause is too little memory, or too little "
            "shared memory (/dev/shm; in a container, --shm-size): try fewer workers, or "
            f"{by_user('--workers 0', 'workers=0')}."
        ) from error


def ignore_interrupts(worker: int) -> None:
    """Make a worker process ignore SIGINT, which the main process handles, and end on SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class EvalSamples(Dataset[tuple[Tensor, int]]):
    """Resized and normalised images, sorted by size, so that most batches have images of one size.

    Args:
        dataset: the split to evaluate.
        transform: from :func:`~anchordetr.data.transforms.eval_transform`.
        share: rank of this process and number of processes, which divide the images.
    """

    def __init__(self, dataset: DetectionDataset, transform: v2.Transform, share: tuple[int, int]) -> None:
        self.dataset = dataset
        self.transform = transform
        self.order = np.lexsort(dataset.annotations.sizes.T)[share[0] :: share[1]]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        index = int(self.order[position])
        return prepare_image(self.dataset.image(index), self.transform), index


def collate_eval(samples: Sequence[tuple[Tensor, int]]) -> EvalBatch:
    """Return the images of a batch as a list, because their sizes may differ."""
    images, indices = zip(*samples, strict=True)
    return EvalBatch(list(images), list(indices))


def eval_loader(
    dataset: DetectionDataset,
    transform: v2.Transform,
    batch_size: int,
    workers: int,
    share: tuple[int, int] = (0, 1),
) -> DataLoader[Any]:
    """Return a loader of :class:`EvalBatch`; arguments as for :class:`EvalSamples`."""
    return DataLoader(
        EvalSamples(dataset, transform, share),
        batch_size=batch_size,
        collate_fn=collate_eval,
        num_workers=workers,
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),  # or the start would draw from the caller's
    )

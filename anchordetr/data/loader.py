"""From a data set to training batches. A batch depends on the seed, the epoch and its number alone."""

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

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.transforms import prepare_image
from anchordetr.errors import InputError, reason
from anchordetr.types import ImageBatch, Target, pad_and_stack

_SORTED_TOGETHER = 32  # batches
_SHAPES = 1  # sets the seeds of sizes apart from those of images


class EvalBatch(NamedTuple):
    """What the evaluator gets: prepared images, and which records of the data set they are."""

    images: list[Tensor]
    indices: list[int]


class TrainBatch(NamedTuple):
    """What the trainer gets: images, their objects and the images' ids."""

    images: ImageBatch
    targets: list[Target]
    image_ids: list[int]

    def pin_memory(self) -> TrainBatch:
        """Return the batch in page-locked memory (called by the data loader)."""
        return TrainBatch(self.images.pin_memory(), [target.pin_memory() for target in self.targets], self.image_ids)


class EpochBatches(Sampler[list[tuple[int, int, int]]]):
    """Shuffled batches of (epoch, step, index); the last, smaller batch of an epoch is left out.

    The images of an optimizer step do not depend on how many processes and parts share them. Images of like aspect
    ratios come together, so that batches hold little padding.

    Args:
        length: of the data set.
        batch_size: images of an optimizer step, reduced to ``length`` if that is smaller.
        seed: of the shuffling.
        share: which processes there are: the number of this one, and of all.
        parts: in how many batches a process gets its images of a step.
        ratios: height over width of each image; None leaves them as they are shuffled.

    Attributes:
        epoch: which epoch is next. start: with which of its steps it begins.

    Raises:
        InputError: the images of a step cannot be shared out evenly.
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
                f"parts; choose a multiple of {self.ranks * parts} for --batch-size."
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
        """Return the images of the epoch: shuffled, sorted by ratio within some batches, these shuffled again."""
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
    """Augmented images, whatever worker makes them.

    The random numbers of an image come from (seed, epoch, index), those of its size from (seed, epoch, step).
    """

    def __init__(self, dataset: DetectionDataset, transform: v2.Transform, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Target, int]:
        epoch, step, index = key
        record = self.dataset.annotations[index]
        keep = ~record.crowd
        size = (record.height, record.width)
        sample = {
            "image": Image(self.dataset.image(index)),
            "boxes": BoundingBoxes(record.boxes[keep], format=BoundingBoxFormat.XYWH, canvas_size=size),
            "labels": torch.from_numpy(record.labels[keep]),
            "shapes": torch.Generator().manual_seed(_seed(self.seed, epoch, step, _SHAPES)),
        }
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_seed(self.seed, epoch, index))
            sample = self.transform(sample)
        height, width = sample["image"].shape[-2:]
        boxes = box_convert(sample["boxes"].as_subclass(Tensor).float(), "xywh", "cxcywh")
        boxes /= torch.tensor([width, height, width, height])
        return sample["image"].as_subclass(Tensor), Target(boxes, sample["labels"]), record.image_id


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class TrainCollate:
    """Pads the uint8 images of a batch to one size and normalises them together; padding is zero afterwards.

    Args:
        mean, std: of the backbone's images, per channel.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = torch.tensor(mean).view(3, 1, 1) * 255
        self.std = torch.tensor(std).view(3, 1, 1) * 255

    def __call__(self, samples: Sequence[tuple[Tensor, Target, int]]) -> TrainBatch:
        images, targets, image_ids = zip(*samples, strict=True)
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
        pixels = (pad_and_stack(images) - self.mean) / self.std
        for padded, (height, width) in zip(pixels, sizes, strict=True):
            padded[:, height:] = 0
            padded[:, :, width:] = 0
        return TrainBatch(ImageBatch(pixels, sizes), list(targets), list(image_ids))


def train_loader(
    dataset: DetectionDataset,
    transform: v2.Transform,
    normalisation: tuple[Sequence[float], Sequence[float]],
    batches: EpochBatches,
    workers: int,
    pin_memory: bool,
) -> DataLoader[Any]:
    """Return a loader of :class:`TrainBatch`; set ``batches.epoch`` and ``batches.start`` before each epoch.

    Args:
        transform: see :func:`~anchordetr.data.transforms.train_transform`.
        normalisation: mean and standard deviation of the backbone's images, per channel.
    """
    return DataLoader(
        TrainSamples(dataset, transform, batches.seed),
        batch_sampler=batches,
        collate_fn=TrainCollate(*normalisation),
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=leave_interrupts,
        generator=torch.Generator(),  # its own, so that starting an epoch again draws no other random numbers
    )


def batches_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """Iterate over a loader; a dead worker is named as what it is.

    Raises:
        InputError: a worker process died; the message says what to try.
    """
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"A process that loads images died ({reason(error)}). Most often memory, or shared memory (/dev/shm; in "
            "a container, --shm-size) is short: try fewer --workers, or --workers 0."
        ) from error


def leave_interrupts(worker: int) -> None:
    """Let a worker process leave Ctrl-C to the process that trains, and end on SIGTERM, whatever it inherited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class EvalSamples(Dataset[tuple[Tensor, int]]):
    """Prepared images in order of their size, so that most batches hold one size.

    Args:
        share: the number of this process and of all; each gets other images.
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
    """Keep images of a batch apart; the model groups them by size."""
    images, indices = zip(*samples, strict=True)
    return EvalBatch(list(images), list(indices))


def eval_loader(
    dataset: DetectionDataset,
    transform: v2.Transform,
    batch_size: int,
    workers: int,
    share: tuple[int, int] = (0, 1),
) -> DataLoader[Any]:
    """Return a loader of :class:`EvalBatch` with this process's share of the images."""
    return DataLoader(
        EvalSamples(dataset, transform, share),
        batch_size=batch_size,
        collate_fn=collate_eval,
        num_workers=workers,
        worker_init_fn=leave_interrupts,
    )

"""Image batches, targets and predictions: the data that the packages exchange.

Dimension letters used everywhere: ``B`` batch, ``H W`` feature height and width, ``C`` channels, ``M`` heads,
``D`` channels per head, ``A`` anchors, ``N`` queries of an attention, ``Q`` = anchors × patterns, ``K`` classes,
``L`` decoder layers, ``T`` objects of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from anchordetr.errors import InputError

Device = torch.device | str


@dataclass(frozen=True)
class ImageBatch:
    """Images of possibly different sizes in one tensor, padded with zeros at the right and at the bottom.

    Attributes:
        pixels: (B, 3, H, W) normalised float images.
        sizes: (height, width) in pixels of each image inside ``pixels``.
    """

    pixels: Tensor
    sizes: tuple[tuple[int, int], ...]

    @classmethod
    def from_list(cls, images: Sequence[Tensor]) -> Self:
        """Stack normalised float (3, H, W) images.

        Raises:
            InputError: the list is empty, or an image has another shape, is not floating point or not finite.
        """
        if len(images) == 0:
            raise InputError("The list of images is empty; give at least one image.")
        for index, image in enumerate(images):
            _check_image(index, image)
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
        return cls(pad_and_stack(images), sizes)

    @property
    def is_padded(self) -> bool:
        """Whether any image is smaller than the tensor that holds it."""
        return any(size != tuple(self.pixels.shape[-2:]) for size in self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: Device, non_blocking: bool = False) -> ImageBatch:
        """Return the batch on ``device``."""
        return ImageBatch(self.pixels.to(device, non_blocking=non_blocking), self.sizes)

    def pin_memory(self) -> ImageBatch:
        """Return the batch in page-locked memory (called by the data loader)."""
        return ImageBatch(self.pixels.pin_memory(), self.sizes)


def pad_and_stack(maps: Sequence[Tensor]) -> Tensor:
    """Stack (C, H, W) tensors of any sizes to (B, C, H, W), padded with zeros at the right and at the bottom."""
    height = max(features.shape[-2] for features in maps)
    width = max(features.shape[-1] for features in maps)
    return torch.stack(
        [F.pad(features, (0, width - features.shape[-1], 0, height - features.shape[-2])) for features in maps]
    )


def _check_image(index: int, image: Tensor) -> None:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise InputError(f"Image {index} has shape {tuple(image.shape)}; expected (3, height, width).")
    if not image.is_floating_point():
        raise InputError(f"Image {index} is {image.dtype}; expected normalised floating point values.")
    if not bool(torch.isfinite(image).all()):
        raise InputError(f"Image {index} holds NaN or infinite values.")


@dataclass(frozen=True)
class Target:
    """The objects of one image.

    Attributes:
        boxes: (T, 4) cx, cy, w, h as fractions of the unpadded image.
        labels: (T,) int64 class indices, 0-based and contiguous.
    """

    boxes: Tensor
    labels: Tensor

    def to(self, device: Device, non_blocking: bool = False) -> Target:
        """Return the target on ``device``."""
        return Target(
            self.boxes.to(device, non_blocking=non_blocking), self.labels.to(device, non_blocking=non_blocking)
        )

    def pin_memory(self) -> Target:
        """Return the target in page-locked memory (called by the data loader)."""
        return Target(self.boxes.pin_memory(), self.labels.pin_memory())


@dataclass(frozen=True)
class Predictions:
    """The model's output for a batch: logits and boxes of every decoder layer, of which the last are the detections.

    Query ``q`` belongs to pattern ``q // num_anchors`` and anchor ``q % num_anchors``.

    Attributes:
        logits: (L, B, Q, K) class scores before the sigmoid.
        boxes: (L, B, Q, 4) cx, cy, w, h as fractions of the unpadded image.
        anchors: (B, Q, 2) x, y as fractions of the unpadded image.
        num_anchors: number of anchor points A; Q is A times the number of patterns.
        pattern_ids: (P,) int64 ids of the trained network's patterns that were used; None means all of them.
        auxiliary: further predictions that the loss includes, by name: ``encoder`` of every location of the encoded
            map, ``group_1``, ... of further query groups, ``denoising`` of denoising queries; empty in eval mode.
        target_indices: (B, G, Q/G) index of the target, within its image, that each query has to predict, -1 for no
            object; each of the G groups contains every target once. None if the matcher assigns the targets.
    """

    logits: Tensor
    boxes: Tensor
    anchors: Tensor
    num_anchors: int
    pattern_ids: Tensor | None = None
    auxiliary: Mapping[str, Predictions] = field(default_factory=dict)
    target_indices: Tensor | None = None

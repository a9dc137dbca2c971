"""What travels between the rooms: image batches, targets, predictions, detections.

Dimension letters used everywhere: ``B`` batch, ``H W`` feature height and width, ``C`` channels, ``M`` heads,
``D`` channels per head, ``A`` anchors, ``N`` queries of an attention, ``Q`` = anchors × patterns, ``K`` classes,
``L`` decoder layers, ``T`` objects of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from anchordetr.errors import InputError

if TYPE_CHECKING:
    import supervision
    from PIL import Image

Device = torch.device | str


@dataclass(frozen=True)
class ImageBatch:
    """Pictures of possibly different sizes in one tensor, padded with zeros at the right and at the bottom.

    Attributes:
        pixels: (B, 3, H, W) normalised float pictures.
        sizes: (height, width) in pixels of each picture inside ``pixels``.
    """

    pixels: Tensor
    sizes: tuple[tuple[int, int], ...]

    @classmethod
    def from_list(cls, images: Sequence[Tensor]) -> Self:
        """Stack normalised float (3, H, W) pictures.

        Raises:
            InputError: the list is empty, or a picture has another shape, is not floating point or not finite.
        """
        if len(images) == 0:
            raise InputError("The list of images is empty; give at least one image.")
        for index, image in enumerate(images):
            _check_image(index, image)
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
        return cls(pad_and_stack(images), sizes)

    @property
    def is_padded(self) -> bool:
        """Whether any picture is smaller than the tensor that holds it."""
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
    """Stack (C, H, W) tensors of different heights and widths, with zeros at the right and at the bottom."""
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
    """The objects of one picture.

    Attributes:
        boxes: (T, 4) cx, cy, w, h as fractions of the unpadded picture.
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
    """What the model says of a batch: one set of boxes per decoder layer, the last layer is the answer.

    Query ``q`` belongs to pattern ``q // num_anchors`` and anchor ``q % num_anchors``.

    Attributes:
        logits: (L, B, Q, K) class scores before the sigmoid.
        boxes: (L, B, Q, 4) cx, cy, w, h as fractions of the unpadded picture.
        anchors: (B, Q, 2) x, y as fractions of the unpadded picture.
        num_anchors: number of anchor points A; Q is A times the number of patterns.
        patterns: (P,) int64, which of the trained network's patterns these are; None is all of them.
        auxiliary: by name, what else learns in training: ``cells`` of the encoded map, each a query of its own, further
            groups of queries ``group_1``, ..., and ``denoising`` queries; empty in eval mode.
        objects: (B, G, Q/G) which of its picture's objects each query has to find, -1 for none, in G groups that each
            hold every object; None where the matching decides.
    """

    logits: Tensor
    boxes: Tensor
    anchors: Tensor
    num_anchors: int
    patterns: Tensor | None = None
    auxiliary: Mapping[str, Predictions] = field(default_factory=dict)
    objects: Tensor | None = None


@dataclass
class Detections:
    """The objects found in one picture, the surest first; fields as in ``supervision.Detections``.

    Attributes:
        xyxy: (n, 4) float32 x1, y1, x2, y2 in pixels of the picture as given.
        confidence: (n,) float32 scores in [0, 1]. class_id: (n,) int64 class indices.
        anchor_xy: (n, 2) float32, the anchor in pixels that each answer came from. pattern_id: (n,) int64.
        data: arrays of n more values each: ``class_name``, and ``category_id``, the data set's own id.
        image: (H, W, 3) uint8 RGB, the picture, if it was kept.
        source: the file or address the picture came from, if there was one.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    anchor_xy: NDArray[np.float32]
    pattern_id: NDArray[np.int64]
    data: dict[str, NDArray[Any]] = field(default_factory=dict)
    image: NDArray[np.uint8] | None = None
    source: str | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Return the detections that a slice, a mask or indices choose."""
        return Detections(
            self.xyxy[rows],
            self.confidence[rows],
            self.class_id[rows],
            self.anchor_xy[rows],
            self.pattern_id[rows],
            {key: values[rows] for key, values in self.data.items()},
            self.image,
            self.source,
        )

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the boxes with names and scores on the picture, and save it if a path is given.

        Raises:
            InputError: the picture was not kept.
        """
        from PIL import Image
        from torchvision.utils import draw_bounding_boxes

        if self.image is None:
            raise InputError("These detections hold no picture; predict with keep_images=True to plot them.")
        names = self.data.get("class_name", self.class_id.astype(str))
        picture = torch.from_numpy(self.image).permute(2, 0, 1).contiguous()
        if len(self):
            labels = [f"{name} {score:.2f}" for name, score in zip(names, self.confidence, strict=True)]
            colours = [PALETTE[index % len(PALETTE)] for index in self.class_id]
            width = max(1, round(max(self.image.shape[:2]) / 400))
            picture = draw_bounding_boxes(picture, _drawable(self.xyxy), labels, colours, width=width)
        drawn = Image.fromarray(picture.permute(1, 2, 0).numpy())
        if path is not None:
            drawn.save(path)
        return drawn

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO results: ``image_id``, ``category_id``, ``bbox`` (x, y, w, h) and ``score`` each."""
        categories = self.data.get("category_id", self.class_id)
        return [
            {
                "image_id": image_id,
                "category_id": int(category),
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": float(score),
            }
            for (x1, y1, x2, y2), category, score in zip(self.xyxy, categories, self.confidence, strict=True)
        ]

    def to_supervision(self) -> supervision.Detections:
        """Return ``supervision.Detections`` with the same fields, anchor and pattern among its ``data``.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            from supervision import Detections as SupervisionDetections
        except ImportError as error:
            raise ImportError("supervision is not installed; run: pip install 'anchordetr[supervision]'") from error
        data = {**self.data, "anchor_xy": self.anchor_xy, "pattern_id": self.pattern_id}
        return SupervisionDetections(
            xyxy=self.xyxy, confidence=self.confidence, class_id=self.class_id.astype(int), data=data
        )


PALETTE = (
    "#e6194b",
    "#3cb44b",
    "#4363d8",
    "#f58231",
    "#911eb4",
    "#008080",
    "#f032e6",
    "#9a6324",
    "#808000",
    "#000075",
)


def _drawable(xyxy: NDArray[np.float32]) -> Tensor:
    """Boxes of at least one pixel, as the drawing function wants them."""
    boxes = torch.from_numpy(xyxy).clone()
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
    return boxes

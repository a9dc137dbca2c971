"""Prediction: images in, :class:`~anchordetr.detections.Detections` out, over any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from anchordetr.config import DataConfig
from anchordetr.data.fetch import is_address
from anchordetr.data.ids import id_array
from anchordetr.data.images import ImageSource, Pixels, load_image, load_or_skip
from anchordetr.data.sources import expand_source
from anchordetr.data.transforms import as_tensor, eval_transform, prepare_image
from anchordetr.detections import Detections
from anchordetr.device import autocast
from anchordetr.errors import InputError
from anchordetr.grouping import group_by
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.postprocess import postprocess
from anchordetr.types import ImageBatch

Backend = Callable[[Sequence[Tensor], Sequence[tuple[int, int]]], list[Detections]]
"""(normalised (3, H, W) images, the (height, width) in pixels to scale their boxes to) -> detections per image."""

_CHUNK = 8


@dataclass(frozen=True)
class Predictor:
    """Reads images, runs a backend on them, and adds class names to the detections.

    Attributes:
        backend: a :data:`Backend`; for a network, ``partial(detect, model)``.
        transform: prepares images for the backend, see :func:`~anchordetr.data.transforms.eval_transform`.
        class_names, category_ids: name and data-set id of each class index.
    """

    backend: Backend
    transform: v2.Transform
    class_names: Sequence[str]
    category_ids: Sequence[int]

    def predict(
        self, source: ImageSource | Sequence[ImageSource], threshold: float = 0.5
    ) -> Detections | list[Detections]:
        """Detect objects in one image, or in each of several.

        Args:
            source: a path, URL, PIL image, RGB uint8 array (H, W, 3) or tensor (3, H, W): returns detections. A list, a
                folder or a glob pattern: returns a list.
            threshold: the lowest confidence that is returned.

        Raises:
            InputError: the list is empty, or an image cannot be read; the message names it.
        """
        if isinstance(source, (list, tuple)):
            if not source:
                raise InputError("The list of images is empty; give at least one image.")
            return list(self.predict_each(source, threshold))
        if isinstance(source, (str, Path)) and not is_address(source) and not Path(source).is_file():
            return list(self.predict_each(expand_source(source), threshold))
        return next(self.predict_each([cast(ImageSource, source)], threshold))

    def predict_each(
        self, sources: Sequence[ImageSource], threshold: float = 0.5, skip_broken: bool = False
    ) -> Iterator[Detections]:
        """Yield the detections of each image in order, with at most eight images in memory.

        Args:
            sources, threshold: as in :meth:`predict`.
            skip_broken: skip images that cannot be read, with a warning for each, instead of raising.

        Raises:
            InputError: an image cannot be read, and ``skip_broken`` is false; the message names it.
        """
        load = load_or_skip if skip_broken else load_image
        for start in range(0, len(sources), _CHUNK):
            chunk = sources[start : start + _CHUNK]
            read = [(source, image) for source in chunk if (image := load(source)) is not None]
            sizes = [(image.shape[0], image.shape[1]) for _, image in read]
            prepared = [prepare_image(as_tensor(image), self.transform) for _, image in read]
            for (source, image), found in zip(read, self.backend(prepared, sizes), strict=True):
                yield self._describe(found[found.confidence >= threshold], source, image)

    def _describe(self, detections: Detections, source: ImageSource, image: Pixels) -> Detections:
        """Add the image (H, W, 3), where it came from, and names and ids of the classes."""
        detections.image = image
        detections.source = str(source) if isinstance(source, (str, Path)) else None
        detections.data["class_name"] = np.array(self.class_names)[detections.class_id]
        detections.data["category_id"] = id_array(self.category_ids)[detections.class_id]
        return detections


def transform_for(model: AnchorDETR, settings: DataConfig) -> v2.Transform:
    """Return the transform that prepares images for a network, with the sizes of the data settings."""
    return eval_transform(settings.short_side, settings.long_side, model.backbone.mean, model.backbone.std)


@torch.inference_mode()
def detect(
    model: nn.Module, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]], precision: str = "fp32"
) -> list[Detections]:
    """Run a network on prepared images, batched by shape so that none is padded.

    Args:
        model: an :class:`~anchordetr.models.anchor_detr.AnchorDETR` in eval mode.
        images: normalised (3, H, W) images of any sizes.
        sizes: (height, width) in pixels to which the boxes of each image are scaled.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Returns:
        The 100 detections of each image with the highest scores, in the order of the images.
    """
    device = next(model.parameters()).device
    found: dict[int, Detections] = {}
    for members in group_by(image.shape for image in images).values():
        batch = ImageBatch.from_list([images[i] for i in members]).to(device)
        with autocast(device, precision):
            predictions = model(batch)
        found.update(zip(members, postprocess(predictions, [sizes[i] for i in members]), strict=True))
    return [found[i] for i in range(len(images))]

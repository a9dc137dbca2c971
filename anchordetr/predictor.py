"""Prediction: images in, :class:`~anchordetr.detections.Detections` out, over any backend."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

from anchordetr.config import DataConfig
from anchordetr.data.ahead import ahead
from anchordetr.data.ids import id_array
from anchordetr.data.images import ImageSource, Pixels, load_image
from anchordetr.data.sources import several_images
from anchordetr.data.transforms import as_tensor, eval_transform, prepare_image
from anchordetr.detections import Detections
from anchordetr.device import autocast
from anchordetr.errors import InputError
from anchordetr.files import MEBIBYTE
from anchordetr.grouping import group_by
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.postprocess import postprocess
from anchordetr.prediction_options import Threshold, class_thresholds
from anchordetr.types import ImageBatch

Backend = Callable[[Sequence[Tensor], Sequence[tuple[int, int]]], list[Detections]]
"""(normalised (3, H, W) images, the (height, width) in pixels to scale their boxes to) -> detections per image."""

_BATCH = 8
_AHEAD = 8
_THREADS = 4
_MEMORY_AHEAD = 96 * MEBIBYTE  # of pixels of images that are read ahead
_MEMORY_OF_BATCH = 32 * MEBIBYTE  # of pixels of images as given
_PIXELS_OF_BATCH = 2**19  # of resized images

log = logging.getLogger("anchordetr")


@dataclass(frozen=True)
class _Prepared:
    """An image that was read and resized."""

    source: ImageSource
    size: tuple[int, int]
    pixels: Tensor
    image: Pixels | None

    @property
    def memory(self) -> int:
        """Bytes of the image as given."""
        return 3 * self.size[0] * self.size[1]


@dataclass(frozen=True)
class Predictor:
    """Reads images, runs a backend on them, and adds class names to the detections.

    Attributes:
        backend: a :data:`Backend`; for a network, ``partial(detect, model)``.
        transform: prepares images for the backend, see :func:`~anchordetr.data.transforms.eval_transform`.
        class_names, category_ids: name and data-set id of each class index.
        threshold: the lowest score that is returned, where none is given.
        batch_size: images given to the backend at once. None suits a CPU, which gains nothing from large batches: up
            to 8, as long as they have fewer than 2^19 pixels when resized and 32 MiB as given.
    """

    backend: Backend
    transform: v2.Transform
    class_names: Sequence[str]
    category_ids: Sequence[int]
    threshold: float = 0.5
    batch_size: int | None = None

    def predict(
        self,
        source: ImageSource | Iterable[ImageSource],
        threshold: Threshold = None,
        keep_images: bool | None = None,
    ) -> Detections | list[Detections]:
        """Detect objects in one image, or in each of several.

        Arguments and errors are those of :meth:`~anchordetr.detector.Detector.predict`.
        """
        several = several_images(source)
        if several is None:
            thresholds = class_thresholds(threshold, self.class_names, self.threshold)
            image = self._prepare(cast(ImageSource, source), keep_images is not False)
            return next(self._detect([image], thresholds))
        if isinstance(several, Sized) and not len(several):
            raise InputError("The list of images is empty; give at least one image.")
        return list(self.predict_each(several, threshold, keep_images=bool(keep_images)))

    def predict_each(
        self,
        sources: ImageSource | Iterable[ImageSource],
        threshold: Threshold = None,
        skip_broken: bool = False,
        keep_images: bool = True,
    ) -> Generator[Detections, None, None]:
        """Yield the detections of each image, in order; files are read ahead in threads.

        Arguments and errors are those of :meth:`~anchordetr.detector.Detector.predict_each`.
        """
        thresholds = class_thresholds(threshold, self.class_names, self.threshold)
        several = several_images(sources)
        images = [cast(ImageSource, sources)] if several is None else several
        return self._detect_each(images, thresholds, skip_broken, keep_images)

    def _detect_each(
        self, sources: Iterable[ImageSource], thresholds: NDArray[np.float32], skip_broken: bool, keep_image: bool
    ) -> Generator[Detections, None, None]:
        batch: list[_Prepared] = []
        latest = _MEMORY_AHEAD // 2  # so that two are read before the first size is known
        tasks = (self._task(source, keep_image) for source in sources)

        def room() -> int:
            return min(_AHEAD, _MEMORY_AHEAD // latest)

        for result in ahead(tasks, min(_THREADS, os.cpu_count() or 1), room):
            try:
                batch.append(result())
            except InputError as error:
                if not skip_broken:
                    raise
                log.warning("Skipped: %s", error)
                continue
            latest = max(batch[-1].memory, 1)
            if self._is_full(batch):
                yield from self._detect(batch, thresholds)
                batch = []
        if batch:
            yield from self._detect(batch, thresholds)

    def _is_full(self, batch: Sequence[_Prepared]) -> bool:
        if self.batch_size is not None:
            return len(batch) >= self.batch_size
        pixels = sum(image.pixels[0].numel() for image in batch)
        memory = sum(image.memory for image in batch)
        return len(batch) >= _BATCH or pixels >= _PIXELS_OF_BATCH or memory >= _MEMORY_OF_BATCH

    def _task(self, source: ImageSource, keep_image: bool) -> Callable[[], _Prepared]:
        """Return what prepares an image in a thread; what the caller may change meanwhile is copied now."""
        if isinstance(source, (str, Path, bytes, bytearray, memoryview)):
            return partial(self._prepare, source, keep_image)
        try:
            return partial(self._prepare, load_image(source), keep_image)
        except InputError as error:
            return partial(_fail, error)

    def _prepare(self, source: ImageSource, keep_image: bool) -> _Prepared:
        image = load_image(source)
        pixels = prepare_image(as_tensor(image), self.transform)
        return _Prepared(source, (image.shape[0], image.shape[1]), pixels, image if keep_image else None)

    def _detect(self, batch: Sequence[_Prepared], thresholds: NDArray[np.float32]) -> Iterator[Detections]:
        detected = self.backend([image.pixels for image in batch], [image.size for image in batch])
        for image, found in zip(batch, detected, strict=True):
            yield self._describe(found[found.confidence >= thresholds[found.class_id]], image)

    def _describe(self, detections: Detections, image: _Prepared) -> Detections:
        """Add the image, where it came from, and names and ids of the classes."""
        detections.image, detections.size = image.image, image.size
        detections.source = str(image.source) if isinstance(image.source, (str, Path)) else None
        detections.data["class_name"] = np.array(self.class_names)[detections.class_id]
        detections.data["category_id"] = id_array(self.category_ids)[detections.class_id]
        return detections


def _fail(error: InputError) -> NoReturn:
    raise error


def counted(backend: Backend, count: Callable[[int], object]) -> Backend:
    """Return a backend that calls ``count`` with the number of images after each batch."""

    def detect_and_count(images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        found = backend(images, sizes)
        count(len(images))
        return found

    return detect_and_count


def transform_for(model: AnchorDETR, settings: DataConfig) -> v2.Transform:
    """Return the transform that prepares images for a network, with the sizes of the data settings."""
    return eval_transform(settings.short_side, settings.long_side, model.backbone.mean, model.backbone.std)


@torch.inference_mode()
def detect(
    model: nn.Module,
    images: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    precision: str = "fp32",
    max_detections: int = 100,
    labels: Sequence[int] | None = None,
) -> list[Detections]:
    """Run a network on prepared images, batched by shape so that none is padded.

    Args:
        model: an :class:`~anchordetr.models.anchor_detr.AnchorDETR` in eval mode.
        images: normalised (3, H, W) images of any sizes.
        sizes: (height, width) in pixels to which the boxes of each image are scaled.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        max_detections: how many detections of an image are returned, those with the highest scores.
        labels: the class indices to look for; all of them if None.

    Returns:
        The detections of each image, in the order of the images.
    """
    device = next(model.parameters()).device
    found: dict[int, Detections] = {}
    for members in group_by(image.shape for image in images).values():
        batch = ImageBatch.from_list([images[i] for i in members]).to(device)
        with autocast(device, precision):
            predictions = model(batch)
        detected = postprocess(predictions, [sizes[i] for i in members], max_detections, labels)
        found.update(zip(members, detected, strict=True))
    return [found[i] for i in range(len(images))]

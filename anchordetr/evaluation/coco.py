"""COCO average precision with pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision.transforms import v2

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.loader import batches_of, eval_loader
from anchordetr.distributed import ALONE, World
from anchordetr.errors import InputError
from anchordetr.evaluation.confusion import confusion_matrix
from anchordetr.predictor import detect

_STATS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
)


@dataclass(frozen=True)
class Details:
    """What the curves and the matrix of an evaluation are drawn from.

    Attributes:
        precision: (101, K) at an IoU of 0.5 by recall and class, -1 where there is nothing to find.
        confusion: computes the :func:`~anchordetr.evaluation.confusion.confusion_matrix`.
    """

    precision: NDArray[np.float64]
    confusion: Callable[[], NDArray[np.int64]]


@dataclass(frozen=True)
class Metrics:
    """COCO's twelve numbers as fractions of 1, and AP per class; -1 where there was nothing to find."""

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    per_class: dict[str, float]
    details: Details | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the metrics that :meth:`to_dict` gave; other keys do not matter."""
        return cls(**{name: values[name] for name in (*_STATS, "per_class")})

    def to_dict(self) -> dict[str, Any]:
        """Return what ``metrics.json`` holds."""
        return {name: value for name, value in vars(self).items() if name != "details"}


def evaluate(
    model: nn.Module,
    dataset: DetectionDataset,
    transform: v2.Transform,
    batch_size: int = 8,
    workers: int = 0,
    precision: str = "fp32",
    on_batch: Callable[[int, int], None] | None = None,
    world: World = ALONE,
) -> Metrics:
    """Run a network over a data set and compute COCO's metrics.

    Several processes share the images; each of them returns the same metrics.

    Args:
        model: an :class:`~anchordetr.models.anchor_detr.AnchorDETR`; its training mode is restored afterwards.
        dataset: with annotations.
        transform: see :func:`~anchordetr.data.transforms.eval_transform`.
        on_batch: called with the number of images done and of all images of this process.
        world: the processes that evaluate together.
    """
    was_training = model.training
    model.eval()
    rows: list[NDArray[np.float64]] = [np.zeros((0, 7))]
    loader = eval_loader(dataset, transform, batch_size, workers, (world.rank, world.size))
    done = 0
    for batch in batches_of(loader):
        records = [dataset.annotations[index] for index in batch.indices]
        sizes = [(record.height, record.width) for record in records]
        for record, found in zip(records, detect(model, batch.images, sizes, precision), strict=True):
            rows.append(coco_rows(record.image_id, found.xyxy, found.confidence, found.class_id, dataset.category_ids))
        done += len(records)
        if on_batch is not None:
            on_batch(done, len(loader.dataset))  # type: ignore[arg-type]
    model.train(was_training)
    shares = world.gather(np.concatenate(rows))
    metrics = coco_metrics(dataset, np.concatenate(shares)) if world.is_main else None
    shared: Metrics = world.from_main(metrics and replace(metrics, details=None))
    return metrics or shared


def coco_rows(
    image_id: int,
    xyxy: NDArray[np.float32],
    confidence: NDArray[np.float32],
    class_id: NDArray[np.int64],
    category_ids: list[int],
) -> NDArray[np.float64]:
    """Return detections of one image as rows image id, x, y, w, h, score, category id."""
    rows = np.empty((len(xyxy), 7))
    rows[:, 0] = image_id
    rows[:, 1:3] = xyxy[:, :2]
    rows[:, 3:5] = xyxy[:, 2:] - xyxy[:, :2]
    rows[:, 5] = confidence
    rows[:, 6] = np.asarray(category_ids)[class_id]
    return rows


def coco_metrics(dataset: DetectionDataset, rows: NDArray[np.float64]) -> Metrics:
    """Compute COCO's metrics of result rows (see :func:`coco_rows`).

    Raises:
        InputError: rows name an image that the data set does not hold.
    """
    unknown = np.setdiff1d(rows[:, 0].astype(np.int64), dataset.annotations.image_ids)
    if len(unknown):
        raise InputError(f"The results name {len(unknown)} unknown images, for example image_id {unknown[0]}.")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset.ground_truth()
        truth.createIndex()
        results = truth.loadRes(rows) if len(rows) else _no_results(truth)
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = dict(zip(_STATS, (float(value) for value in evaluation.stats), strict=True))
    precision = evaluation.eval["precision"]
    details = Details(precision[0, :, :, 0, -1], partial(confusion_matrix, dataset, rows))
    return Metrics(**stats, per_class=_per_class(precision, dataset), details=details)


def _per_class(precision: NDArray[np.float64], dataset: DetectionDataset) -> dict[str, float]:
    """AP of each class from precision (thresholds, recalls, classes, areas, limits)."""
    by_class = {}
    for index, name in enumerate(dataset.class_names):
        values = precision[:, :, index, 0, -1]
        by_class[name] = float(values[values > -1].mean()) if (values > -1).any() else -1.0
    return by_class


def _no_results(truth: COCO) -> COCO:
    empty = COCO()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty

"""COCO average precision with pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.transforms import v2

from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.loader import batches_of, eval_loader
from anchordetr.detections import Detections
from anchordetr.distributed import ALONE, ProcessGroup
from anchordetr.errors import InputError
from anchordetr.evaluation.confusion import confusion_matrix
from anchordetr.evaluation.thresholds import best_thresholds
from anchordetr.metrics import STATISTICS, Details, Metrics

Detect = Callable[[Sequence[Tensor], Sequence[tuple[int, int]]], list[Detections]]
"""Takes normalised (3, H, W) images and for each the (height, width) that boxes refer to; returns their detections."""


def evaluate(
    detect: Detect,
    dataset: DetectionDataset,
    transform: v2.Transform,
    batch_size: int = 8,
    workers: int = 0,
    process_group: ProcessGroup = ALONE,
) -> Metrics:
    """Detect the objects of a data set, with any backend, and compute COCO's metrics.

    Several processes share the images; each of them returns the same metrics.

    Args:
        detect: see :data:`Detect`; for a network ``partial(anchordetr.predictor.detect, model)``.
        dataset: with annotations.
        transform: see :func:`~anchordetr.data.transforms.eval_transform`.
        batch_size: images given to ``detect`` at once. workers: processes that load them.
        process_group: the processes that evaluate together.
    """
    rows: list[NDArray[np.float64]] = [np.zeros((0, 7))]
    loader = eval_loader(dataset, transform, batch_size, workers, (process_group.rank, process_group.size))
    for batch in batches_of(loader):
        records = [dataset.annotations[index] for index in batch.indices]
        sizes = [(record.height, record.width) for record in records]
        for index, found in zip(batch.indices, detect(batch.images, sizes), strict=True):
            rows.append(coco_rows(index, found.xyxy, found.confidence, found.class_id))
    shares = process_group.gather(np.concatenate(rows))
    metrics = coco_metrics(dataset, np.concatenate(shares)) if process_group.is_main else None
    shared: Metrics = process_group.from_main(metrics and replace(metrics, details=None))
    return metrics or shared


def coco_rows(
    index: int, xyxy: NDArray[np.float32], confidence: NDArray[np.float32], class_id: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return detections of one image as rows index of the image, x, y, w, h, score, class index."""
    rows = np.empty((len(xyxy), 7))
    rows[:, 0] = index
    rows[:, 1:3] = xyxy[:, :2]
    rows[:, 3:5] = xyxy[:, 2:] - xyxy[:, :2]
    rows[:, 5] = confidence
    rows[:, 6] = class_id
    return rows


def coco_results(dataset: DetectionDataset, rows: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return result rows (see :func:`coco_rows`) as COCO results, with the names of files and classes.

    They are sorted by image, and have the data set's own ids.
    """
    results = []
    for index, *box, score, label in rows[np.argsort(rows[:, 0], kind="stable")].tolist():
        record = dataset.annotations[int(index)]
        results.append(
            {
                "image_id": record.image_id,
                "category_id": dataset.category_ids[int(label)],
                "bbox": box,
                "score": score,
                "file_name": record.file_name,
                "class_name": dataset.class_names[int(label)],
            }
        )
    return results


def coco_metrics(dataset: DetectionDataset, rows: NDArray[np.float64]) -> Metrics:
    """Compute COCO's metrics of result rows (see :func:`coco_rows`).

    Raises:
        InputError: rows name an image that the data set does not hold.
    """
    unknown = np.setdiff1d(rows[:, 0].astype(np.int64), np.arange(len(dataset)))
    if len(unknown):
        raise InputError(
            f"The results name {len(unknown)} unknown images, for example number {unknown[0]} of {len(dataset)}."
        )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _by_index(dataset.ground_truth())
        truth.createIndex()
        results = truth.loadRes(rows) if len(rows) else _no_results(truth)
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = dict(zip(STATISTICS, (float(value) for value in evaluation.stats), strict=True))
    precision = evaluation.eval["precision"]
    best = best_thresholds(_of_all_areas(evaluation), dataset.class_names)
    confusion = partial(confusion_matrix, dataset, rows, best.threshold)
    details = Details(precision[0, :, :, 0, -1].copy(), best.threshold, confusion, partial(coco_results, dataset, rows))
    return Metrics(
        **stats,
        per_class=_per_class(precision, dataset),
        f1=best.f1,
        threshold=best.threshold,
        class_thresholds=best.by_class,
        details=details,
    )


def _of_all_areas(evaluation: COCOeval) -> list[dict[str, Any] | None]:
    """Return the matches of each class and image, for objects of all sizes: the first area range of each class."""
    images, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    return [
        matches
        for start in range(0, len(evaluation.evalImgs), images * areas)
        for matches in evaluation.evalImgs[start : start + images]
    ]


def _by_index(truth: dict[str, Any]) -> dict[str, Any]:
    """Return a ground truth with positions of images and categories as ids; floats hold them exactly."""
    rows = {image["id"]: row for row, image in enumerate(truth["images"])}
    labels = {category["id"]: label for label, category in enumerate(truth["categories"])}
    return {
        "info": {},
        "images": [{**image, "id": rows[image["id"]]} for image in truth["images"]],
        "annotations": [
            {**entry, "image_id": rows[entry["image_id"]], "category_id": labels[entry["category_id"]]}
            for entry in truth["annotations"]
        ],
        "categories": [{**category, "id": labels[category["id"]]} for category in truth["categories"]],
    }


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

"""CPU seconds of COCO's evaluation, compared with pycocotools alone, on generated results.

python benchmarks/evaluation_cost.py --images 5000    # about two and a half minutes
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from anchordetr.data.dataset import AnnotationTable, DetectionDataset, ImageRecord
from anchordetr.evaluation.coco import coco_metrics

CLASSES = 80
DETECTIONS = 100


class GeneratedBoxes(DetectionDataset):
    """Random boxes without images, about as many per image as in COCO."""

    def __init__(self, length: int, rng: np.random.Generator) -> None:
        self.class_names = [f"class {index}" for index in range(CLASSES)]
        self.category_ids = list(range(1, CLASSES + 1))
        self.annotations = AnnotationTable.of([self._record(index, rng) for index in range(length)])

    @staticmethod
    def _record(index: int, rng: np.random.Generator) -> ImageRecord:
        count = int(rng.poisson(7.3))
        boxes = rng.uniform((0, 0, 8, 8), (300, 300, 300, 300), (count, 4)).astype(np.float32)
        labels, crowd = rng.integers(CLASSES, size=count), np.zeros(count, dtype=np.bool_)
        return ImageRecord(index + 1, f"{index}.jpg", 480, 640, boxes, labels, boxes[:, 2] * boxes[:, 3], crowd)

    def image(self, index: int) -> Tensor:
        raise NotImplementedError("only the boxes are generated")


def results(dataset: DetectionDataset, rng: np.random.Generator) -> np.ndarray:
    """Return a hundred rows per image, the first ones near its objects: image, x, y, w, h, score, class."""
    rows = np.empty((len(dataset), DETECTIONS, 7))
    rows[..., 1:5] = rng.uniform((0, 0, 8, 8), (300, 300, 300, 300), (len(dataset), DETECTIONS, 4))
    rows[..., 5] = rng.random((len(dataset), DETECTIONS))
    rows[..., 6] = rng.integers(CLASSES, size=(len(dataset), DETECTIONS))
    for index, block in enumerate(rows):
        record = dataset.annotations[index]
        count = len(record.labels)
        block[:, 0] = index
        block[:count, 1:5] = record.boxes + rng.normal(0, 4, (count, 4))
        block[:count, 6] = record.labels
    return rows.reshape(-1, 7)


def pycocotools_alone(truth: dict[str, object], detections: list[dict[str, object]]) -> None:
    """Evaluate with pycocotools what its JSON files would contain."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    images = parser.parse_args().images

    rng = np.random.default_rng(0)
    dataset = GeneratedBoxes(images, rng)
    rows = results(dataset, rng)
    detections = [
        {"image_id": int(row[0]) + 1, "category_id": int(row[6]) + 1, "bbox": row[1:5].tolist(), "score": row[5]}
        for row in rows
    ]
    alone = cpu_seconds(lambda: pycocotools_alone(dataset.ground_truth(), detections))
    ours = cpu_seconds(lambda: coco_metrics(dataset, rows))
    print(f"pycocotools alone {alone:.1f} s, coco_metrics {ours:.1f} s, {ours / alone:.2f} times as long")


if __name__ == "__main__":
    main()

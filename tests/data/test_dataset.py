"""Annotation tables in shared memory, and the ground truth in COCO format."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from anchordetr.data.dataset import AnnotationTable, Names
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.evaluation.coco import coco_metrics, coco_rows

Changed = Callable[..., Path]
IMAGES, OBJECTS = 20_000, 20


def large_table() -> AnnotationTable:
    count = IMAGES * OBJECTS
    rng = np.random.default_rng(0)
    return AnnotationTable(
        image_ids=np.arange(IMAGES),
        file_names=Names.of([f"images/ü{number:012d}.jpg" for number in range(IMAGES)]),
        sizes=np.full((IMAGES, 2), 480),
        starts=np.arange(IMAGES + 1) * OBJECTS,
        boxes=rng.random((count, 4), dtype=np.float32),
        labels=rng.integers(80, size=count),
        areas=rng.random(count, dtype=np.float32),
        crowd=np.zeros(count, dtype=np.bool_),
    )


def python_objects(value: Any) -> int:
    """Return the number of Python objects of a value; forked processes copy the pages of those that they access."""
    if isinstance(value, np.ndarray):
        return 1
    if isinstance(value, dict):
        return 1 + sum(python_objects(item) for item in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return 1 + sum(python_objects(item) for item in value)
    return 1 + (python_objects(vars(value)) if hasattr(value, "__dict__") else 0)


def perfect_rows(dataset: Any, keep_crowds: bool = False) -> np.ndarray:
    rows = []
    for index in range(len(dataset)):
        record = dataset.annotations[index]
        kept = slice(None) if keep_crowds else ~record.crowd
        xyxy = np.concatenate([record.boxes[:, :2], record.boxes[:, :2] + record.boxes[:, 2:]], axis=1)[kept]
        rows.append(coco_rows(index, xyxy, np.ones(len(xyxy)), record.labels[kept]))
    return np.concatenate(rows)


def test_a_data_set_holds_few_python_objects(coco_folder: Any) -> None:
    dataset = open_dataset(coco_folder, "train")
    assert python_objects(dataset) < 60
    assert python_objects(large_table()) < 30


def test_spawned_workers_receive_handles_of_shared_memory() -> None:
    table = large_table()
    whole = sum(array.nbytes for array in vars(table).values() if isinstance(array, np.ndarray))
    assert whole > 10_000_000
    assert all(len(ForkingPickler.dumps(table)) < 10_000 for _ in range(3))
    assert all(column.is_shared() for column in table.__getstate__().values())
    assert table.__getstate__() is table.__getstate__()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda table: pickle.loads(pickle.dumps(table))], ids=["copy", "file"]
)
def test_a_copied_table_is_equal(duplicate: Any) -> None:
    table = large_table()
    other = duplicate(table)
    assert len(other) == IMAGES
    for name, value in other[12_345]._asdict().items():
        np.testing.assert_array_equal(value, getattr(table[12_345], name))
    assert other[7].file_name == "images/ü000000000007.jpg"


class MemoryOfWorker(Dataset[tuple[int, int]]):
    """Reads every record and returns the growth of the worker's private memory in kB."""

    def __init__(self, table: AnnotationTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[int, int]:
        before = own_memory()
        total = sum(int(self.table[row].labels.sum()) for row in range(len(self.table)))
        return total, own_memory() - before


def own_memory() -> int:
    with open("/proc/self/smaps_rollup", encoding="utf-8") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux's /proc")
def test_forked_workers_share_the_records() -> None:
    table = large_table()
    size = sum(array.nbytes for array in vars(table).values() if isinstance(array, np.ndarray)) // 1024
    loader = DataLoader(MemoryOfWorker(table), batch_size=None, num_workers=2, multiprocessing_context="fork")
    for total, grown in loader:
        assert total == table.labels.sum()
        assert grown < size / 4


def test_annotation_ids_of_the_ground_truth_start_at_one(changed: Changed) -> None:
    """pycocotools treats a match with the annotation id 0 as unmatched, which would lower the recall."""

    def change(content: dict[str, Any]) -> None:
        for number, annotation in enumerate(content["annotations"]):
            annotation["id"] = number

    dataset = open_dataset(changed(change), "val")
    assert min(annotation["id"] for annotation in dataset.ground_truth()["annotations"]) == 1
    assert coco_metrics(dataset, perfect_rows(dataset)).ar_100 == 1.0


def test_category_ids_with_gaps_are_mapped_to_indices_and_back(coco_folder: Path) -> None:
    dataset = open_dataset(coco_folder, "val")
    assert set(np.unique(dataset.annotations.labels)) == {0, 1, 2}
    rows = perfect_rows(dataset)
    assert set(rows[:, 6]) == {0, 1, 2}
    assert {annotation["category_id"] for annotation in dataset.ground_truth()["annotations"]} == {3, 7, 20}
    assert coco_metrics(dataset, rows).ap == pytest.approx(1.0)


def test_detections_inside_a_crowd_are_ignored(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            if annotation["image_id"] == 2:
                annotation |= {"iscrowd": 1, "category_id": 3}

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.crowd.any()
    without, inside = perfect_rows(dataset), perfect_rows(dataset, keep_crowds=True)
    assert len(inside) > len(without)
    assert coco_metrics(dataset, inside) == coco_metrics(dataset, without)
    assert coco_metrics(dataset, inside).ap == pytest.approx(1.0)

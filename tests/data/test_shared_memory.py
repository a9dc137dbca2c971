"""Large annotation files do not multiply by the number of workers."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from anchordetr.data.dataset import AnnotationTable, Names
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.loader import TrainSamples
from anchordetr.data.transforms import ResizeShortSide

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


def python_objects(thing: Any) -> int:
    """The number of Python objects that a thing holds, which forked processes copy as they touch them."""
    if isinstance(thing, np.ndarray):
        return 1
    if isinstance(thing, dict):
        return 1 + sum(python_objects(value) for value in thing.values())
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return 1 + sum(python_objects(value) for value in thing)
    return 1 + (python_objects(vars(thing)) if hasattr(thing, "__dict__") else 0)


def test_a_data_set_is_a_few_arrays_whatever_its_size(coco_folder: Any) -> None:
    dataset = open_dataset(coco_folder, "train")
    assert python_objects(dataset) < 60
    assert python_objects(large_table()) < 30


def test_a_worker_that_is_started_afresh_gets_handles_not_copies() -> None:
    table = large_table()
    whole = sum(array.nbytes for array in vars(table).values() if isinstance(array, np.ndarray))
    assert whole > 10_000_000
    assert all(len(ForkingPickler.dumps(table)) < 10_000 for _ in range(3))
    assert all(column.is_shared() for column in table.__getstate__().values())
    assert table.__getstate__() is table.__getstate__()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda table: pickle.loads(pickle.dumps(table))], ids=["copy", "file"]
)
def test_a_copy_holds_the_same(duplicate: Any) -> None:
    table = large_table()
    other = duplicate(table)
    assert len(other) == IMAGES
    for name, value in other[12_345]._asdict().items():
        np.testing.assert_array_equal(value, getattr(table[12_345], name))
    assert other[7].file_name == "images/ü000000000007.jpg"


class MemoryOfWorker(Dataset[tuple[int, int]]):
    """Touches every record, then tells what the worker's memory is its own (kB)."""

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
def test_forked_workers_read_every_record_without_copying_it() -> None:
    table = large_table()
    size = sum(array.nbytes for array in vars(table).values() if isinstance(array, np.ndarray)) // 1024
    loader = DataLoader(MemoryOfWorker(table), batch_size=None, num_workers=2, multiprocessing_context="fork")
    for total, grown in loader:
        assert total == table.labels.sum()
        assert grown < size / 4


@pytest.mark.slow
def test_spawned_workers_load_the_same_batches(coco_folder: Any) -> None:
    samples = TrainSamples(open_dataset(coco_folder, "train"), ResizeShortSide([64], 96), seed=0)
    keys = [(0, 0, index) for index in range(8)]
    loader = DataLoader(samples, sampler=keys, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    for (image, target, image_id), key in zip(loader, keys, strict=True):
        expected = samples[key]
        assert torch.equal(image, expected[0])
        assert torch.equal(target.boxes, expected[1].boxes)
        assert image_id == expected[2]

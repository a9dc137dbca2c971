"""COCO annotation files."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutations import mutated_document, mutated_text
from fuzz.outcome import FileTarget
from PIL import Image

from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.opening import open_dataset

DOCUMENT: dict[str, Any] = {
    "info": {"year": 2024},
    "images": [
        {"id": 1, "file_name": "a.png", "width": 10, "height": 8},
        {"id": 2, "file_name": "b.png", "width": 10, "height": 8},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 12.0, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 7, "segmentation": [[1, 1, 5, 1, 5, 6]], "iscrowd": 0},
        {"id": 3, "image_id": 2, "category_id": 7, "segmentation": {"size": [8, 10], "counts": [9, 4, 67]}},
        {"id": 4, "image_id": 2, "category_id": 7, "segmentation": {"size": [8, 10], "counts": "94S2"}, "iscrowd": 1},
    ],
    "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog", "supercategory": ""}],
}


def target(folder: Path) -> FileTarget:
    """Return the annotations of two images."""
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (10, 8)).save(folder / "val" / name)

    def read() -> None:
        for split in examine(folder).splits:
            split.statistics()
        open_dataset(folder, "val").ground_truth()

    return FileTarget(folder / "annotations" / "instances_val.json", read, mutate)


def mutate(random: Random) -> bytes:
    if random.randrange(5) == 0:
        return mutated_text(json.dumps(DOCUMENT), random)
    return json.dumps(mutated_document(DOCUMENT, random)).encode()

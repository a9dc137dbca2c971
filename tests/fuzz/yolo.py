"""YOLO: label files, and ``data.yaml``."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import yaml
from fuzz.mutations import mutated_document, mutated_text
from fuzz.outcome import FileTarget
from PIL import Image

from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.holdout import Holdout
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.documents import TextLoader

LABELS = "0 0.5 0.5 0.2 0.25\n1 0.1 0.1 0.4 0.1 0.4 0.6 0.2 0.7\n"
SETTINGS = (
    "# a data set\npath: .\ntrain: images\nval: [images]\ntest:\nnc: 2\n"
    "names:\n  0: cat\n  1: 'dog'\ntask: segment\nyear: 2024-01-02\n"
)
DARKNET = "classes = 2\ntrain = data/train.txt\nvalid=images\nnames = data/obj.names\nbackup = backup/\n"


def labels(folder: Path) -> FileTarget:
    """Return a label file with a box and a polygon."""
    write_data_set(folder)
    file = folder / "labels" / "a.txt"
    return FileTarget(file, lambda: read(folder), lambda random: mutated_text(LABELS, random), named="labels/a.txt")


def settings(folder: Path) -> FileTarget:
    """Return a ``data.yaml``; what it names may be missing, so that errors name it or the folder."""
    write_data_set(folder)
    document = yaml.load(SETTINGS, TextLoader)

    def mutate(random: Random) -> bytes:
        if random.randrange(2):
            return mutated_text(SETTINGS, random)
        return json.dumps(mutated_document(document, random)).encode()  # which is YAML too

    return FileTarget(folder / "data.yaml", lambda: read(folder), mutate, named=str(folder))


def darknet(folder: Path) -> FileTarget:
    """Return an ``obj.data``; without it, the class names beside the labels stand for it."""
    write_data_set(folder)
    (folder / "data.yaml").unlink()
    (folder / "obj.names").write_text("cat\ndog\n")
    (folder / "train.txt").write_text("data/images/a.png\n")
    holdout = Holdout(0.5)

    def read_train() -> None:
        examine(folder, holdout=holdout)
        open_dataset(folder, "train").ground_truth()

    return FileTarget(folder / "obj.data", read_train, lambda random: mutated_text(DARKNET, random), named=str(folder))


def write_data_set(folder: Path) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir()
    Image.new("RGB", (10, 8)).save(folder / "images" / "a.png")
    (folder / "labels" / "a.txt").write_text(LABELS)
    (folder / "data.yaml").write_text("train: images\nval: images\ntask: segment\nnames: [cat, dog]\n")


def read(folder: Path) -> None:
    for split in examine(folder).splits:
        split.statistics()
    open_dataset(folder, "val").ground_truth()

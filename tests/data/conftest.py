"""Fixtures: the same twelve images in every layout, and copies with changed annotations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def changed(coco_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the COCO folder and change the annotations of one split."""

    def copy(change: Change, split: str = "val") -> Path:
        folder = tmp_path / "data"
        if not folder.exists():
            shutil.copytree(coco_folder, folder)
        file = folder / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        change(content)
        file.write_text(json.dumps(content), encoding="utf-8")
        return folder

    return copy


def annotations_of(folder: Path, split: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
    return content


@pytest.fixture(scope="session")
def roboflow_folder(coco_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Roboflow's COCO export, whose categories have a dummy parent with the id 0."""
    folder = tmp_path_factory.mktemp("roboflow")
    for split, name in (("train", "train"), ("val", "valid")):
        shutil.copytree(coco_folder / split, folder / name)
        content = annotations_of(coco_folder, split)
        for category in content["categories"]:
            category["supercategory"] = "shapes"
        content["categories"].insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})
        (folder / name / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def yolo_folder(coco_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YOLO layout with the class ids 3, 7 and 20."""
    folder = tmp_path_factory.mktemp("yolo")
    for split in ("train", "val"):
        shutil.copytree(coco_folder / split, folder / "images" / split)
        (folder / "labels" / split).mkdir(parents=True)
        content = annotations_of(coco_folder, split)
        for image in content["images"]:
            lines = [
                " ".join(map(repr, (a["category_id"], (x + w / 2) / 64, (y + h / 2) / 64, w / 64, h / 64)))
                for a in content["annotations"]
                for x, y, w, h in [a["bbox"]]
                if a["image_id"] == image["id"]
            ]
            (folder / "labels" / split / image["file_name"]).with_suffix(".txt").write_text("\n".join(lines))
    names = "names: {20: triangle, 3: circle, 7: rectangle}"
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\n{names}\n")
    return folder


@pytest.fixture(scope="session")
def voc_folder(coco_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Pascal VOC layout."""
    folder = tmp_path_factory.mktemp("voc")
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split in ("train", "val"):
        content = annotations_of(coco_folder, split)
        names = {category["id"]: category["name"] for category in content["categories"]}
        for image in content["images"]:
            file = Path(image["file_name"])
            shutil.copy(coco_folder / split / file, folder / "JPEGImages")
            objects = [
                f"<object><name>{names[a['category_id']]}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
                f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
                for a in content["annotations"]
                for x, y, w, h in [a["bbox"]]
                if a["image_id"] == image["id"]
            ]
            size = "<size><width>64</width><height>64</height><depth>3</depth></size>"
            xml = f"<annotation><filename>{file}</filename>{size}{''.join(objects)}</annotation>"
            (folder / "Annotations" / f"{file.stem}.xml").write_text(xml)
        stems = [Path(image["file_name"]).stem for image in content["images"]]
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")
    return folder

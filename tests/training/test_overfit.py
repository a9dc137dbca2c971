"""A few images can be learned by heart: nothing between the files and the metrics is broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from anchordetr import Detector
from anchordetr.models.presets import preset, recipe


@pytest.fixture
def learned_by_heart(coco_folder: Path, tmp_path: Path) -> Path:
    """The four validation images, for training too."""
    folder = tmp_path / "data"
    for split in ("train", "val"):
        shutil.copytree(coco_folder / "val", folder / split)
    (folder / "annotations").mkdir()
    truth = json.loads((coco_folder / "annotations" / "instances_val.json").read_text())
    for split in ("train", "val"):
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(truth))
    return folder


def test_four_images_are_learned_by_heart(learned_by_heart: Path, tmp_path: Path) -> None:
    config = (
        preset("anchordetr_tiny").updated(recipe("finetune")).updated({"data.flips": [], "model.box_refinement": True})
    )
    detector = Detector(config, device="cpu")
    metrics = detector.train(
        learned_by_heart, tmp_path / "run", epochs=120, eval_every=60, batch_size=4, lr_batch_size=4, ema_decay=0.9
    )
    assert metrics.ap > 0.9

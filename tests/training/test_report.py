"""The page of a run."""

from __future__ import annotations

import re
from pathlib import Path

from anchordetr import Detector
from anchordetr.config import Config


def test_a_run_ends_with_a_page(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    metrics = Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=2)
    page = (tmp_path / "report.md").read_text()
    assert f"| {metrics.ap:.3f} | {metrics.ap50:.3f} |" in page
    for text in ("| circle |", "train.epochs: 2 (the paper's 50)", str(coco_folder), "## Epochs"):
        assert text in page
    shown = re.findall(r"!\[.*?\]\((.*?)\)", page)
    names = ("curves.png", "precision_recall.png", "confusion_matrix.png", "sample_0.jpg")
    assert {f"report/{name}" for name in names} <= set(shown)
    assert all((tmp_path / file).stat().st_size > 1000 for file in shown)

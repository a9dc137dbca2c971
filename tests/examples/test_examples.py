"""Every example runs from end to end, at a small size."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]
EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = [
    "model.backbone=test_resnet.r160_in1k",
    "model.pretrained_backbone=false",
    "model.features=c4",
    "model.fusion_level=null",
    "model.embed_dim=32",
    "model.num_heads=4",
    "model.num_anchors=9",
    "model.decoder_layers=1",
    "data.short_side=48",
    "data.train_short_sides=[48]",
    "data.workers=0",
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example as a script and return what it printed."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_quickstart(run: Run, coco_folder: Path, tmp_path: Path) -> None:
    out = run(
        "quickstart", "--data", coco_folder, "--images", coco_folder / "val", "--epochs", 1, "--output-dir", tmp_path
    )
    assert out.startswith("AP ")
    assert len(list(tmp_path.glob("prediction_*.png"))) == 4


def test_finetune(run: Run, coco_folder: Path, tmp_path: Path) -> None:
    out = run("finetune", coco_folder, coco_folder / "val", "--epochs", 1, "--output-dir", tmp_path, "--set", *SMALL)
    assert out.startswith("AP ")
    assert len(list(tmp_path.glob("*_boxes.png"))) == 4


def test_plugin(run: Run, coco_folder: Path, tmp_path: Path) -> None:
    assert "with 40 anchors" in run("plugin", "--data", coco_folder, "--output-dir", tmp_path)


def test_rcda_in_vit(run: Run) -> None:
    assert "accuracy on new images" in run("rcda_in_vit", "--steps", 1)


def test_rcda_in_segmentation(run: Run) -> None:
    assert run("rcda_in_segmentation", "--steps", 1, "--size", 16).count("mean IoU") == 2


def test_every_example_has_a_test() -> None:
    assert {f"test_{file.stem}" for file in EXAMPLES.glob("*.py")} <= globals().keys()

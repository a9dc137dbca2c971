"""Every example runs from end to end, at a small size."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

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


def test_data_layout(run: Run, csv_folder: Path, tmp_path: Path) -> None:
    out = run("data_layout", csv_folder, "--epochs", 1, "--output-dir", tmp_path / "run", "--set", *SMALL)
    assert "classes: circle, rectangle, triangle" in out
    expected = [record.boxes.tolist() for record in open_dataset(csv_folder.parent / "coco", "val").annotations]
    assert [record.boxes.tolist() for record in open_dataset(csv_folder, "val").annotations] == expected
    assert examine(csv_folder).layout == "csv"
    file = csv_folder / "valid" / "_annotations.csv"
    file.write_text(file.read_text().replace("64,64,circle,", "64,64,circle,x", 1))
    with pytest.raises(InputError, match=r"not four finite numbers: 1 \(_annotations\.csv line \d+\)"):
        open_dataset(csv_folder, "val")
    file.write_text("filename,class\n1.png,cat\n")
    with pytest.raises(InputError, match=r"_annotations\.csv must have the columns"):
        open_dataset(csv_folder, "val")


@pytest.fixture
def csv_folder(coco_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """One CSV file of boxes for each split."""
    shutil.copytree(coco_folder, tmp_path / "coco")
    for split, folder in (("train", "train"), ("val", "valid")):
        shutil.copytree(coco_folder / split, tmp_path / "csv" / folder)
        dataset = open_dataset(coco_folder, split)
        rows = [
            f"{record.file_name},64,64,{dataset.class_names[label]},{x!r},{y!r},{x + w!r},{y + h!r}"
            for record in dataset.annotations
            for (x, y, w, h), label in zip(record.boxes.astype(float).tolist(), record.labels, strict=True)
        ]
        lines = ["filename,width,height,class,xmin,ymin,xmax,ymax", *rows]
        (tmp_path / "csv" / folder / "_annotations.csv").write_text("\n".join(lines))
    yield tmp_path / "csv"
    DATA_LAYOUTS._components.pop("csv", None)


def test_the_page_shows_the_example_of_a_layout() -> None:
    page = (EXAMPLES.parent / "docs" / "data.md").read_text()
    code = (EXAMPLES / "data_layout.py").read_text()
    shown = code[code.index("@DATA_LAYOUTS") : code.index("def main")].strip()
    assert shown in page


def test_rcda_in_vit(run: Run) -> None:
    assert "accuracy on new images" in run("rcda_in_vit", "--steps", 1)


def test_rcda_in_segmentation(run: Run) -> None:
    assert run("rcda_in_segmentation", "--steps", 1, "--size", 16).count("mean IoU") == 2


def test_every_example_has_a_test() -> None:
    assert {f"test_{file.stem}" for file in EXAMPLES.glob("*.py")} <= globals().keys()

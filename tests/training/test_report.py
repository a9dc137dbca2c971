"""The page of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.machine import device_name
from anchordetr.markdown import escaped
from anchordetr.metrics import STATISTICS, Metrics
from anchordetr.training.progress import Outcome
from anchordetr.training.report import write_report

OUTCOME = Outcome("all 50 epochs are trained", 40, 754.0, "cpu")


def test_a_run_ends_with_a_page(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    metrics = Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=2)
    page = (tmp_path / "report.md").read_text()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    best = max(log, key=lambda entry: entry["ap"])["epoch"]
    for row in (
        f"| epochs | 2, the best is {best} |",
        "| ended because | all 2 epochs are trained |",
        f"| device | {escaped(device_name(torch.device('cpu')))}, threads: {torch.get_num_threads()} |",
        f"| threshold | {metrics.threshold:g}, with the highest F1: {metrics.f1:.3f} |",
    ):
        assert row in page
    assert re.search(r"\| duration \| \d+ (s|min) \|", page)
    assert f"| {metrics.ap:.3f} | {metrics.ap50:.3f} |" in page
    for text in ("| circle |", "train.epochs: 2 (the paper's 50)", str(coco_folder), "## Epochs"):
        assert text in page
    shown = re.findall(r"!\[.*?\]\((.*?)\)", page)
    names = ("curves.png", "precision_recall.png", "confusion_matrix.png", "sample_0.jpg")
    assert {f"report/{name}" for name in names} <= set(shown)
    assert all((tmp_path / file).stat().st_size > 1000 for file in shown)


def test_names_on_the_page_stay_text(tmp_path: Path) -> None:
    names = ["<script>x</script>", "a|b", "`c`", "d\ne", "\udcff", "[f](g)"]
    metrics = Metrics(**dict.fromkeys(STATISTICS, 0.5), per_class=dict.fromkeys(names, 0.25))
    figures = {"curves": [tmp_path / "a (1).png"], "samples": []}
    origin = {"data": "<b>|data", "command": "anchordetr `x`\n", "versions": {}}
    write_report(tmp_path, metrics, [], origin, OUTCOME, Config().updated({"data.layout": "<i>"}), figures)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    table = page.split("| class | AP | threshold |")[1].split("## Epochs")[0].strip().splitlines()
    assert [line.count("|") for line in table[1:]] == [4] * len(names)
    assert "<script>" not in page
    assert "<i>" not in page
    assert "<b>" not in page
    assert "`` anchordetr `x`\\n ``" in page
    assert "(a%20%281%29.png)" in page


def test_a_page_of_many_classes_stays_short(tmp_path: Path) -> None:
    names = {f"class {number} {'x' * 1000}": number / 10_000 for number in range(10_000)}
    metrics = Metrics(**dict.fromkeys(STATISTICS, 0.5), per_class=names)
    origin = {"data": "d", "command": "c", "versions": {}}
    write_report(tmp_path, metrics, [], origin, OUTCOME, Config(), {"curves": [], "samples": []})
    page = (tmp_path / "report.md").read_text()
    assert len(page) < 30_000
    assert "100 of 10000 classes" in page


def test_what_differs_from_the_paper_is_a_sentence(tmp_path: Path) -> None:
    metrics = Metrics(**dict.fromkeys(STATISTICS, 0.5), per_class={"a": 0.5, "b": -1.0}, class_thresholds={"a": 0.37})
    origin = {"data": "d", "command": "c", "versions": {"anchordetr": "1", "commit": "abc123"}}
    config = Config().updated({"model.init": "local", "train.lr": 0.5})
    write_report(tmp_path, metrics, [], origin, OUTCOME, config, {"curves": [], "samples": []})
    page = (tmp_path / "report.md").read_text()
    for line in (
        "- model.init: local (differs from the paper's)",
        "- train.lr: 0.5 (the paper's 0.0001)",
        "| a | 0.500 | 0.37 |",
        "| b | - |  |",
        "| duration | 13 min |",
        "| commit | abc123 |",
        "| epochs | 0, the best is 40 |",
    ):
        assert line in page.splitlines()

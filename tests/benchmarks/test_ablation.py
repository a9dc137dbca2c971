"""The ablation: what is read from the runs, that runs are kept, and one small run from end to end."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import ablation
import pytest
import training_curves as curves
from small_ablation import SMALL

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.errors import InputError, UsageError
from anchordetr.models.builders import build_queries
from anchordetr.training.display import ProgressDisplay


def history(*points: tuple[int, float]) -> list[dict[str, float]]:
    return [{"images": images, "ap": ap, "ap50": 2 * ap} for images, ap in points]


def result(name: str, seed: int, *points: tuple[int, float]) -> dict[str, Any]:
    return {
        "name": name,
        "seed": seed,
        "history": history(*points),
        "parameters": 1000,
        "seconds": 10.0,
        "resumed": seed > 0,
        "machine": {"commit": "abc"},
    }


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(100, 0.1), (200, 0.3)], 150.0),  # between two evaluations
        ([(100, 0.4)], 50.0),  # on the line from nothing
        ([(100, 0.2)], 100.0),  # at an evaluation
        ([(100, 0.1), (200, 0.3), (300, 0.1), (400, 0.5)], 150.0),  # the first crossing counts
        ([(100, 0.1), (200, 0.05), (300, 0.35)], 250.0),  # from the evaluation just before it
        ([(100, 0.1), (200, 0.19)], None),
    ],
)
def test_images_to_reach_an_ap(points: list[tuple[int, float]], expected: float | None) -> None:
    assert curves.images_to_reach(history(*points), 0.2) == (None if expected is None else pytest.approx(expected))


def test_runs_that_do_not_get_there_make_a_bound() -> None:
    fast, slow = result("b", 0, (100, 0.4), (400, 0.5)), result("a", 0, (200, 0.2), (400, 0.2))
    never = result("a", 1, (400, 0.1))
    assert str(curves.reached([fast], 0.2)) == "50"
    assert str(curves.reached([slow, never], 0.2)) == "> 300 (1 of 2)"
    assert str(curves.reached([never], 0.2)) == "not reached"
    to_reach = {name: curves.reached(runs, 0.2) for name, runs in {"fast": [fast], "never": [never]}.items()}
    assert curves.ratio(to_reach["fast"], to_reach["fast"]) == "1.00"
    assert curves.ratio(to_reach["never"], to_reach["fast"]) == "> 8.00"
    assert curves.ratio(to_reach["fast"], to_reach["never"]) == "< 0.12"
    assert curves.ratio(to_reach["never"], to_reach["never"]) == "-"


def test_the_table_gives_mean_deviation_and_number_of_seeds() -> None:
    results = [result("detr", 0, (400, 0.2)), result("ours", 0, (400, 0.3)), result("ours", 1, (400, 0.5))]
    rows = curves.summary_rows(results, 0.2, "detr")
    assert [row["variant"] for row in rows] == ["detr", "ours"]
    assert rows[0]["AP"] == "0.200 (1)"
    assert rows[1]["AP"] == "0.400 ± 0.141 (2)"
    assert rows[1]["AP50"] == "0.800 ± 0.283 (2)"
    assert rows[1]["images to AP 0.2"] == "213"  # the mean of 400 · 2 / 3 and 400 · 2 / 5
    assert rows[1]["detr needs times as many"] == "1.88"
    assert rows[1]["seconds"] == "10"  # of the run that was not resumed
    lines = curves.markdown(rows).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


def test_a_kept_result_is_not_made_again_and_not_mixed_with_others(tmp_path: Path) -> None:
    made = []

    def train() -> dict[str, Any]:
        made.append(1)
        return {"name": "a"}

    file, config = tmp_path / "results" / "a.json", Config()
    first = curves.run_once(file, config, train)
    assert curves.run_once(file, config.updated({"data.workers": 0}), train) == first
    assert made == [1]
    with pytest.raises(InputError, match=r"other settings \(train.lr\); choose another --output"):
        curves.run_once(file, config.updated({"train.lr": 0.5}), train)


def test_variants_and_groups_have_names() -> None:
    assert ablation.chosen_variants(["headline", "anchor_detr", "grid"]) == ["detr_queries", "anchor_detr", "grid"]
    with pytest.raises(UsageError, match=r"Unknown variant 'gird'. Did you mean 'grid'"):
        ablation.chosen_variants(["gird"])


@pytest.mark.parametrize("data", ["shapes", "photographs"])
def test_every_variant_of_the_paper_is_a_network_with_as_many_queries(data: str) -> None:
    base = ablation.base_config(data, {"model.backbone_weights": None})
    paper = {name for group in ("headline", "ladder", "patterns", "parts") for name in ablation.GROUPS[group]}
    assert base.model.init == "paper"
    assert not base.model.encoder_loss
    for name, changes in ablation.VARIANTS.items():
        config = base.updated(changes)
        source = build_queries(config.model)
        assert source.num_anchors * source.num_patterns == 108, name
        assert name not in paper or (config.model.init == "paper" and not config.model.encoder_loss)
    with pytest.raises(UsageError, match=r"Unknown configuration key 'model.wings'"):
        base.updated({"model.wings": 2})


def run(monkeypatch: pytest.MonkeyPatch, output: Path, data: Path, *more: str) -> None:
    arguments = ["--data", data, "--output", output, "--epochs", "2", "--target-ap", "0.5", *more, "--set", *SMALL]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *map(str, arguments)])
    curves.run_command(ablation.main)


def test_a_small_ablation(
    tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    run(monkeypatch, tmp_path, coco_folder)
    folder = tmp_path / coco_folder.name
    kept = json.loads((folder / "results" / "detr_queries_seed0.json").read_text())
    assert [entry["images"] for entry in kept["history"]] == [8, 16]
    assert kept["changes"] == ablation.VARIANTS["detr_queries"]
    assert kept["config"]["model"]["queries"] == "embeddings"
    assert kept["machine"]["commit"] == kept["commit"]
    table = capsys.readouterr().out
    assert "| detr_queries | 16 |" in table
    assert "| anchor_detr | 16 |" in table
    assert table.rstrip().endswith((folder / "summary.md").read_text().split("\n\n")[0])
    assert (folder / "curves.png").stat().st_size > 0

    monkeypatch.setattr(Detector, "train", None)  # nothing is trained again
    run(monkeypatch, tmp_path, coco_folder)
    assert capsys.readouterr().out == table


def test_a_stopped_ablation_goes_on(
    tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    report, steps = ProgressDisplay.on_step, []

    def stop_at_the_third_step(self: ProgressDisplay, *arguments: Any) -> None:
        report(self, *arguments)
        steps.append(arguments)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ProgressDisplay, "on_step", stop_at_the_third_step)
    with pytest.raises(SystemExit) as exit_info:
        run(monkeypatch, tmp_path, coco_folder, "--variants", "anchor_detr")
    assert exit_info.value.code == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("*/results/*.json"))

    run(monkeypatch, tmp_path, coco_folder, "--variants", "anchor_detr")
    assert len(steps) == 4  # two epochs of two steps, none done twice
    (file,) = tmp_path.glob("*/results/*.json")
    kept = json.loads(file.read_text())
    assert kept["resumed"]
    assert [entry["images"] for entry in kept["history"]] == [8, 16]

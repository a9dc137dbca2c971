"""The suite: settings of each network, tables over data sets, and small runs from end to end."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ablation
import compare_peers
import numpy as np
import pytest
import suite
import training_curves
from small_ablation import SMALL

from anchordetr.data.dataset import AnnotationTable, ImageRecord
from anchordetr.models.presets import preset


def result(name: str, seed: int, ap: float) -> dict[str, Any]:
    return {"name": name, "seed": seed, "history": [{"images": 8, "ap": ap, "ap50": 2 * ap}]}


def test_a_row_ends_with_the_mean_over_the_data_sets() -> None:
    by_data = {
        "cells": [result("ours", 0, 0.2), result("ours", 1, 0.4), result("peer", 0, 0.1)],
        "fruit": [result("ours", 0, 0.4)],
    }
    assert suite.suite_table(by_data, "ap").splitlines() == [
        "| network | cells | fruit | mean |",
        "| --- | --- | --- | --- |",
        "| ours | 0.300 ± 0.141 (2) | 0.400 (1) | 0.350 |",
        "| peer | 0.100 (1) | - | - |",
    ]
    assert "| ours | 0.600 ± 0.283 (2) | 0.800 (1) | 0.700 |" in suite.suite_table(by_data, "ap50")


def test_a_note_says_what_coco_does_not_count() -> None:
    def split(*counts: int) -> Any:
        records = [
            ImageRecord(
                index, "", 8, 8, np.ones((n, 4), "f4"), np.zeros(n, "i8"), np.ones(n, "f4"), np.arange(n) >= n - 1
            )
            for index, n in enumerate(counts)
        ]
        return SimpleNamespace(annotations=AnnotationTable.of(records))

    assert compare_peers.detection_limit(split(101, 3)) == ""  # one of each is a crowd
    note = compare_peers.detection_limit(split(301, 101))
    assert "up to 300 objects" in note
    assert "at most 50 % of the objects" in note


def test_a_preset_gets_the_shared_backbone_and_changes() -> None:
    base = ablation.base_config("path/to/photographs", {})
    found = compare_peers.settings_of("anchordetr_v2_small", base, {"model.num_classes": 4, "model.num_anchors": 50})
    own = preset("anchordetr_v2_small").model
    assert found.model.backbone == base.model.backbone
    assert found.model.frozen_stages == base.model.frozen_stages
    assert (found.model.embed_dim, found.model.features) == (own.embed_dim, own.features)
    assert (found.model.num_classes, found.model.num_anchors) == (4, 50)
    assert (found.train, found.data, found.loss) == (base.train, base.data, base.loss)


def test_a_variant_may_change_its_loss_and_a_peer_changes_nothing() -> None:
    base = ablation.base_config("path/to/photographs", {})
    assert compare_peers.settings_of("varifocal", base, {}).loss.classification == "varifocal"
    assert compare_peers.settings_of("torchvision_retinanet", base, {}) == base


def test_every_default_network_of_a_protocol_can_be_chosen() -> None:
    for protocol in suite.PROTOCOLS.values():
        assert set(protocol.defaults["models"]) <= set(compare_peers.CHOICES)


def run(monkeypatch: pytest.MonkeyPatch, output: Path, data: list[Path], *more: str) -> None:
    arguments = ["--data", *data, "--output", output, "--rounds", "1", *more, "--set", *SMALL, "data.workers=0"]
    monkeypatch.setattr(sys, "argv", ["suite.py", *map(str, arguments)])
    training_curves.run_command(suite.main)


def test_a_small_suite_is_trained_once(
    tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    other = tmp_path / "other"
    shutil.copytree(coco_folder, other)
    models = ["ours", "torchvision_retinanet"]
    flags = ["--models", *models, "--seeds", "0", "--epochs", "1"]
    run(monkeypatch, tmp_path, [coco_folder, other], *flags)
    printed = capsys.readouterr().out
    folder = tmp_path / "short"
    kept = json.loads((folder / "suite.json").read_text())
    assert list(kept["data"]) == [coco_folder.name, "other"]
    for name, found in kept["data"].items():
        assert [entry["name"] for entry in found["results"]] == models
        assert [entry["history"][-1]["images"] for entry in found["results"]] == [8] * 2
        assert found["results"][0]["machine"]["threads"]
        assert set(found["timings"]) == set(models)
        assert (folder / name / "curves.png").stat().st_size > 0
    page = (folder / "suite.md").read_text()
    mean = (kept["data"][coco_folder.name]["results"][0]["history"][-1]["ap"]) / 2
    mean += kept["data"]["other"]["results"][0]["history"][-1]["ap"] / 2
    assert page.startswith("`suite.py --data ")
    assert f"(1) | {mean:.3f} |" in page
    assert "| network | images seen | AP | AP50 | images to AP 0.1 | parameters |" in page

    monkeypatch.setattr(compare_peers, "build_network", None)  # nothing is trained or measured again
    run(monkeypatch, tmp_path, [coco_folder, other], *flags)
    assert capsys.readouterr().out == printed
    assert (folder / "suite.md").read_text() == page


def test_the_long_protocol_gives_all_networks_the_same_time(
    tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")

    def measure(name: str, reference: str, *_: Any) -> dict[str, Any]:
        return {"ratio": 1.0 if name == reference else 0.5, "seconds": 1.0, "peak_bytes": 0}

    monkeypatch.setattr(compare_peers, "measure_steps", measure)
    flags = ["--protocol", "long", "--models", "anchordetr_tiny", "torchvision_retinanet", "--epochs", "2"]
    run(monkeypatch, tmp_path, [coco_folder], *flags)
    results = json.loads((tmp_path / "long" / "suite.json").read_text())["data"][coco_folder.name]["results"]
    assert [entry["history"][-1]["images"] for entry in results] == [16, 8]
    assert results[0]["config"]["train"]["schedule"] == results[1]["config"]["train"]["schedule"] == "cosine"
    assert results[0]["config"]["train"]["ema_decay"] == 0.995


def test_data_sets_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run(monkeypatch, tmp_path, [tmp_path / "a" / "cells", tmp_path / "b" / "cells"])
    assert exit_info.value.code == 2
    assert "Two data sets have the same folder name (cells, cells); rename" in capsys.readouterr().err

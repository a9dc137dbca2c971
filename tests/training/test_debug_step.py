"""Steps that were not finite, kept and run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from anchordetr import Detector
from anchordetr.cli.main import run as run_command
from anchordetr.config import Config
from anchordetr.errors import InputError
from anchordetr.training.debug_step import debug_step
from anchordetr.training.run import NonFiniteError


def test_a_step_that_was_not_finite_is_kept_and_replayed(
    small_config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = Detector(small_config, ["circle", "rectangle", "triangle"], device="cpu")
    with torch.no_grad():
        detector.model.encoder.layers[0].feed_forward.linear1.weight[0, 0] = float("nan")
    with pytest.raises(
        NonFiniteError, match=r"gradients that are not finite: .* on images \[.*debug-step .*bad_step\.pt"
    ):
        detector.train(coco_folder, tmp_path, epochs=1)
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        run_command(["debug-step", str(tmp_path / "bad_step.pt"), "--json"])
    assert exit_info.value.code == 0
    (step,) = json.loads(capsys.readouterr().out)
    assert step["module"] == "encoder.layers.0.feed_forward.linear1"
    assert step["parameters"] == ["encoder.layers.0.feed_forward.linear1.weight"]
    assert len(step["image_ids"]) == 4
    with pytest.raises(InputError, match="saved training step"):
        debug_step(coco_folder / "annotations" / "instances_train.json")


def test_a_frozen_norm_that_is_not_finite_is_named(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    config = small_config.updated({"model.backbone": "resnet10t", "model.freeze_batch_norm": True})
    detector = Detector(config, ["circle", "rectangle", "triangle"], device="cpu")
    detector.model.get_buffer("backbone.body.network.layer2.0.bn1.running_var")[0] = float("nan")
    with pytest.raises(NonFiniteError):
        detector.train(coco_folder, tmp_path, epochs=1)
    (step,) = debug_step(tmp_path / "bad_step.pt")
    assert step["module"] == "backbone.body.network.layer2.0.bn1"

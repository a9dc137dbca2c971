"""What training draws depends on its seed alone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import assert_same_tensors

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.training.callbacks import Callback, StepEnd, TrainingStart
from anchordetr.weights.saved_model import read_model

_DRAWS = {"model.dropout": 0.1, "model.denoising_groups": 2, "train.epochs": 2, "train.batch_size": 2}


@pytest.fixture
def config(small_config: Config) -> Config:
    return small_config.updated(_DRAWS)


def trained(config: Config, data: Path, output: Path, *callbacks: Callback, **settings: Any) -> dict[str, torch.Tensor]:
    """Return the last weights of a run."""
    Detector(config, device="cpu").train(data, output, callbacks=callbacks, **settings)
    return dict(read_model(output / "last").weights)


class Disturbance(Callback):
    """Draws random numbers, reseeds all generators, predicts and switches the network to eval mode."""

    def __init__(self, detector: Detector | None = None) -> None:
        self.detector = detector

    def on_train_start(self, start: TrainingStart) -> None:
        self.model = start.model
        self.disturb()

    def on_step(self, step: StepEnd) -> None:
        self.disturb()

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        self.disturb()

    def disturb(self) -> None:
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)
        self.model.eval()
        if self.detector is not None:
            self.detector.predict(np.zeros((40, 60, 3), np.uint8), 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"data.workers": 1}, id="one worker"),
        pytest.param({"data.workers": 2}, id="two workers"),
        pytest.param({"train.eval_every": 2}, id="fewer evaluations"),
        pytest.param({"train.save_every": 1}, id="more saves"),
    ],
)
def test_weights_do_not_depend_on(changes: dict[str, Any], config: Config, coco_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    weights = trained(config, coco_folder, tmp_path / "one")
    torch.manual_seed(2)
    assert_same_tensors(trained(config.updated(changes), coco_folder, tmp_path / "two"), weights)


def test_callbacks_and_dry_runs_change_no_weights(config: Config, coco_folder: Path, tmp_path: Path) -> None:
    weights = trained(config, coco_folder, tmp_path / "one")
    detector = Detector(config, device="cpu")
    detector.dry_run(coco_folder)
    detector.predict(np.zeros((40, 60, 3), np.uint8))
    detector.train(coco_folder, tmp_path / "two", callbacks=[Disturbance(detector)])
    assert_same_tensors(dict(read_model(tmp_path / "two" / "last").weights), weights)


def test_another_seed_and_no_dropout_give_other_weights(config: Config, coco_folder: Path, tmp_path: Path) -> None:
    weights = trained(config, coco_folder, tmp_path / "one", epochs=1)
    start = Detector(config, device="cpu")
    for folder, changes in {"seed": {"train.seed": 1}, "dropout": {"model.dropout": 0.0}}.items():
        other = Detector(config.updated(changes), device="cpu")
        other.model.load_state_dict(start.model.state_dict())
        other.train(coco_folder, tmp_path / folder, epochs=1)
        last = read_model(tmp_path / folder / "last").weights
        assert any(not torch.equal(value, last[name]) for name, value in weights.items())


def test_training_leaves_the_random_states_alone(config: Config, coco_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    expected = [random.random(), float(np.random.rand()), float(torch.rand(()))]
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    trained(config, coco_folder, tmp_path, epochs=1)
    assert [random.random(), float(np.random.rand()), float(torch.rand(()))] == expected

"""The training loop: losses, precision, EMA, accumulation, patience, and steps that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from training_runs import assert_same_tensors, saved_weights

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.errors import InputError
from anchordetr.training.run import NonFiniteError
from anchordetr.training.state import load_state
from anchordetr.training.trainer import Trainer


@pytest.fixture
def detector(small_config: Config) -> Detector:
    torch.manual_seed(1)
    return Detector(small_config, device="cpu")


def test_the_loss_falls(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    detector.train(coco_folder, tmp_path, epochs=20, eval_every=20)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["loss_total"] < 0.8 * entries[0]["loss_total"]


def test_bf16_trains(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    assert detector.train(coco_folder, tmp_path, epochs=1, precision="bf16").ap >= 0.0


def test_a_non_finite_loss_stops_before_the_weights_change(
    detector: Detector, coco_folder: Path, tmp_path: Path
) -> None:
    detector = Detector(detector.config, ["circle", "rectangle", "triangle"], device="cpu")
    with torch.no_grad():
        detector.model.heads.box_head.layers[0].weight[0, 0] = float("nan")
    before = {name: value.clone() for name, value in detector.model.named_parameters()}
    with pytest.raises(RuntimeError, match=r"The loss is .*nan.* on images \["):
        detector.train(coco_folder, tmp_path, epochs=1)
    for name, value in detector.model.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_a_gradient_that_is_not_finite_stops_too(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(parameters: object, norm: float) -> torch.Tensor:
        return torch.tensor(float("inf"))

    monkeypatch.setattr("anchordetr.training.optim.nn.utils.clip_grad_norm_", poison)
    with pytest.raises(NonFiniteError, match="No weight was changed"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)


def test_too_little_memory_gives_advice(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(self: Trainer, group: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Trainer, "train_step", run_out)
    with pytest.raises(InputError, match=r"Tried to allocate 20\.00 GiB.*gradient_checkpointing=True.*profile-memory"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)


def test_the_ema_is_what_is_saved(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    for name, decay in (("plain", 0.0), ("ema", 0.5)):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / name, epochs=2, ema_decay=decay)
    plain, ema = (saved_weights(tmp_path / name / "last") for name in ("plain", "ema"))
    state = load_state(tmp_path / "ema" / "last")
    assert_same_tensors(plain, state["model"])
    key = "heads.class_head.weight"
    assert torch.equal(ema[key], state["ema"][f"module.{key}"])
    assert not torch.equal(ema[key], plain[key])


def test_accumulated_parts_make_the_same_step(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    """Without batch statistics; parts are padded alike here."""
    config = small_config.updated({"model.freeze_batch_norm": True, "data.crop": False})
    for name, parts in (("whole", 1), ("parts", 4)):
        Detector(config, device="cpu").train(coco_folder, tmp_path / name, epochs=1, grad_accum_steps=parts)
    first, second = (
        json.loads((tmp_path / name / "log.jsonl").read_text())["loss_total"] for name in ("whole", "parts")
    )
    assert second == pytest.approx(first, rel=1e-4)


def test_patience_ends_a_run(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Detector(small_config, device="cpu").train(
        coco_folder, tmp_path, epochs=9, early_stopping_patience=2, lr=1e-30, backbone_lr=0
    )
    assert 3 <= len((tmp_path / "log.jsonl").read_text().splitlines()) < 9


def test_a_seed_repeats_a_run_bit_for_bit(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        torch.manual_seed(len(name))  # what was drawn before does not matter
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / name, epochs=1, deterministic=True)
    assert_same_tensors(saved_weights(tmp_path / "first" / "last"), saved_weights(tmp_path / "second" / "last"))
    assert (tmp_path / "first" / "log.csv").read_text() == (tmp_path / "second" / "log.csv").read_text()
    header, row = (tmp_path / "first" / "log.csv").read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["epoch"] == "1"

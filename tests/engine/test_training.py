"""Training: optimizer groups, schedules, checkpoints, resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from anchordetr import Detector
from anchordetr.config import Config, TrainConfig
from anchordetr.engine.files import write_text
from anchordetr.engine.optim import build_optimizer, build_scheduler
from anchordetr.errors import InputError


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return Detector.from_pretrained(folder, device="cpu").model.state_dict()


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_papers_recipe_is_the_default() -> None:
    recipe = TrainConfig()
    assert (recipe.lr, recipe.backbone_lr, recipe.weight_decay, recipe.clip_norm) == (1e-4, 1e-5, 1e-4, 0.1)
    assert (recipe.epochs, recipe.epochs * recipe.drop_at, recipe.schedule) == (50, 40, "step")


def test_backbone_and_the_rest_have_their_own_rates() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 3), "decoder": nn.Linear(3, 1)})
    model["decoder"].bias.requires_grad_(False)
    optimizer = build_optimizer(model, lr=1.0, backbone_lr=0.1, weight_decay=0.0)
    sizes = {group["lr"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    assert sizes == {1.0: 3, 0.1: 9}


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [("step", 0.0, {0: 1.0, 7: 1.0, 8: 0.1, 9: 0.1}), ("cosine", 0.2, {0: 1 / 3, 2: 1.0, 6: 0.5, 10: 0.0})],
)
def test_schedules(schedule: str, warmup: float, expected: dict[int, float]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_scheduler(optimizer, schedule, warmup, drop_at=0.8, total_steps=10)
    rates = {}
    for step in range(11):
        rates[step] = scheduler.get_last_lr()[0]
        optimizer.step()
        scheduler.step()
    assert {step: rates[step] for step in expected} == pytest.approx(expected, abs=1e-9)


@pytest.fixture
def detector(small_config: Config) -> Detector:
    torch.manual_seed(1)
    return Detector(small_config, device="cpu")


def test_a_run_keeps_best_and_last_and_its_log(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    metrics = detector.train(coco_folder, tmp_path, epochs=2)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert metrics.ap == max(entry["ap"] for entry in entries)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics.to_dict()
    assert detector.category_ids == [3, 7, 20]

    best = Detector.from_pretrained(tmp_path, device="cpu")
    assert best.class_names == ["circle", "rectangle", "triangle"]
    assert best.category_ids == [3, 7, 20]
    assert best.evaluate(coco_folder) == metrics
    assert_same(best.model.state_dict(), detector.model.state_dict())


def test_the_loss_falls(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    detector.train(coco_folder, tmp_path, epochs=20, eval_every=20)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["loss_total"] < 0.8 * entries[0]["loss_total"]


def test_resuming_equals_never_stopping(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    def run(folder: str, epochs: int, resume: bool = False) -> None:
        torch.manual_seed(1)
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / folder, resume=resume, epochs=epochs)

    small_config = small_config.updated({"train.drop_at": 1.0, "train.warmup": 0.0})
    run("whole", epochs=3)
    run("parts", epochs=1)
    run("parts", epochs=3, resume=True)
    assert_same(weights(tmp_path / "whole" / "last"), weights(tmp_path / "parts" / "last"))
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "parts" / "log.jsonl").read_text()


def test_the_seed_decides_the_starting_weights(small_config: Config) -> None:
    first, again = (Detector(small_config, device="cpu").model.state_dict() for _ in range(2))
    assert_same(first, again)
    other = Detector(small_config.updated({"train.seed": 1}), device="cpu").model.state_dict()
    assert not torch.equal(first["class_head.weight"], other["class_head.weight"])


def test_bf16_trains(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    assert detector.train(coco_folder, tmp_path, epochs=1, precision="bf16").ap >= 0.0


def test_a_folder_with_a_run_is_not_overwritten(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    detector.train(coco_folder, tmp_path, epochs=1)
    with pytest.raises(InputError, match="already holds a run"):
        detector.train(coco_folder, tmp_path, epochs=1)
    detector.train(coco_folder, tmp_path, overwrite=True, epochs=1)


def test_nothing_to_resume_is_said(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to resume"):
        detector.train(coco_folder, tmp_path, resume=True)


def test_a_non_finite_loss_stops_before_the_weights_change(
    detector: Detector, coco_folder: Path, tmp_path: Path
) -> None:
    detector = Detector(detector.config, ["circle", "rectangle", "triangle"], device="cpu")
    with torch.no_grad():
        detector.model.box_head.layers[0].weight[0, 0] = float("nan")
    before = {name: value.clone() for name, value in detector.model.named_parameters()}
    with pytest.raises(RuntimeError, match=r"The loss is .*nan.* on images \["):
        detector.train(coco_folder, tmp_path, epochs=1)
    for name, value in detector.model.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log.jsonl"
    write_text(file, "old")

    def disk_full(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]

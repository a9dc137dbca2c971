"""Training: optimizer groups, schedules, checkpoints, resume."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from anchordetr import Detector
from anchordetr.cli.main import run as run_command
from anchordetr.config import Config, TrainConfig
from anchordetr.errors import InputError, UsageError
from anchordetr.files import write_text
from anchordetr.training.optim import build_optimizer, build_scheduler
from anchordetr.training.replay import replay
from anchordetr.training.run import learning_rates
from anchordetr.training.state import load_state
from anchordetr.training.trainer import NonFiniteError, Trainer


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
    assert not torch.equal(first["heads.class_head.weight"], other["class_head.weight"])


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
        detector.model.heads.box_head.layers[0].weight[0, 0] = float("nan")
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


def test_a_step_that_was_not_finite_is_kept_and_replayed(
    small_config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = Detector(small_config, ["circle", "rectangle", "triangle"], device="cpu")
    with torch.no_grad():
        detector.model.encoder.layers[0].feed_forward.linear1.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"gradients that are not finite: .* on images \[.*replay .*bad_step\.pt"):
        detector.train(coco_folder, tmp_path, epochs=1)
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        run_command(["replay", str(tmp_path / "bad_step.pt"), "--json"])
    assert exit_info.value.code == 0
    (step,) = json.loads(capsys.readouterr().out)
    assert step["module"] == "encoder.layers.0.feed_forward.linear1"
    assert step["parameters"] == ["encoder.layers.0.feed_forward.linear1.weight"]
    assert len(step["image_ids"]) == 4
    with pytest.raises(InputError, match="is no kept training step"):
        replay(coco_folder / "annotations" / "instances_train.json")


def test_a_frozen_norm_that_is_not_finite_is_named(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    config = small_config.updated({"model.backbone": "resnet10t", "model.freeze_batch_norm": True})
    detector = Detector(config, ["circle", "rectangle", "triangle"], device="cpu")
    detector.model.get_buffer("backbone.body.network.layer2.0.bn1.running_var")[0] = float("nan")
    with pytest.raises(NonFiniteError):
        detector.train(coco_folder, tmp_path, epochs=1)
    (step,) = replay(tmp_path / "bad_step.pt")
    assert step["module"] == "backbone.body.network.layer2.0.bn1"


def test_a_gradient_that_is_not_finite_stops_too(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(parameters: object, norm: float) -> torch.Tensor:
        return torch.tensor(float("inf"))

    monkeypatch.setattr("anchordetr.training.trainer.nn.utils.clip_grad_norm_", poison)
    with pytest.raises(NonFiniteError, match="No weight was changed"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)


def test_too_little_memory_is_answered_with_advice(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(self: Trainer, group: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Trainer, "train_step", run_out)
    with pytest.raises(InputError, match=r"Tried to allocate 20\.00 GiB.*--gradient-checkpointing.*profile-memory"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)


def test_the_moving_average_is_what_is_saved(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    for name, decay in (("plain", 0.0), ("average", 0.5)):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / name, epochs=2, ema=decay)
    plain, average = (weights(tmp_path / name / "last") for name in ("plain", "average"))
    state = load_state(tmp_path / "average" / "last")
    assert_same(plain, state["model"])
    key = "heads.class_head.weight"
    assert torch.equal(average[key], state["average"][f"module.{key}"])
    assert not torch.equal(average[key], plain[key])


def test_accumulated_parts_make_the_same_step(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    """Without batch statistics; parts are padded alike here."""
    config = small_config.updated({"model.freeze_batch_norm": True, "data.crop": False})
    for name, parts in (("whole", 1), ("parts", 4)):
        Detector(config, device="cpu").train(coco_folder, tmp_path / name, epochs=1, accumulate=parts)
    first, second = (
        json.loads((tmp_path / name / "log.jsonl").read_text())["loss_total"] for name in ("whole", "parts")
    )
    assert second == pytest.approx(first, rel=1e-4)


def test_frozen_parts_stay_and_unknown_ones_are_named(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    detector = Detector(small_config, ["circle", "rectangle", "triangle"], device="cpu")
    before = {name: value.clone() for name, value in detector.model.named_parameters()}
    detector.train(coco_folder, tmp_path / "run", epochs=1, freeze=["encoder", "decoder.layers.0"])
    moved = {name for name, value in detector.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith(("encoder.", "decoder.layers.0.")) for name in moved)
    assert any(name.startswith("decoder.layers.1.") for name in moved)
    with pytest.raises(UsageError, match=r"names 'encode', .* Its parts: .*encoder"):
        detector.train(coco_folder, tmp_path / "other", epochs=1, freeze=["encode"])


def test_patience_ends_a_run(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=9, patience=2, lr=1e-30, backbone_lr=0)
    assert 3 <= len((tmp_path / "log.jsonl").read_text().splitlines()) < 9


def test_learning_rates_are_scaled_only_when_told(small_config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    settings = small_config.updated({"train.batch_size": 8, "train.lr": 1e-3, "train.backbone_lr": 1e-4}).train
    assert learning_rates(settings) == (1e-3, 1e-4)
    assert "--set train.scale_lr=true would scale them to 0.0005 and 5e-05" in capsys.readouterr().err
    assert learning_rates(settings.model_copy(update={"scale_lr": True})) == (5e-4, 5e-5)
    assert "scaled from 16 to 8 images" in capsys.readouterr().err
    learning_rates(settings.model_copy(update={"batch_size": 16}))
    assert capsys.readouterr().err == ""


def test_a_seed_repeats_a_run_bit_for_bit(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        torch.manual_seed(len(name))  # what was drawn before does not matter
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / name, epochs=1, deterministic=True)
    assert_same(weights(tmp_path / "first" / "last"), weights(tmp_path / "second" / "last"))
    assert (tmp_path / "first" / "log.csv").read_text() == (tmp_path / "second" / "log.csv").read_text()
    header, row = (tmp_path / "first" / "log.csv").read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["epoch"] == "1"


def test_a_run_ends_with_a_page(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    metrics = Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=2)
    page = (tmp_path / "report.md").read_text()
    assert f"| {metrics.ap:.3f} | {metrics.ap50:.3f} |" in page
    for text in ("| circle |", "train.epochs: 2 (the paper's 50)", str(coco_folder), "## Course"):
        assert text in page
    shown = re.findall(r"!\[.*?\]\((.*?)\)", page)
    names = ("curves.png", "precision_recall.png", "confusion_matrix.png", "sample_0.jpg")
    assert {f"report/{name}" for name in names} <= set(shown)
    assert all((tmp_path / file).stat().st_size > 1000 for file in shown)


def test_tensorboard_gets_the_numbers(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: Path) -> None:
            assert folder == tmp_path / "run" / "tensorboard"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            seen.append((name, step))

        def close(self) -> None:
            seen.append(("closed", 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    Detector(small_config, device="cpu").train(coco_folder, tmp_path / "run", epochs=2, tensorboard=True)
    assert [step for name, step in seen if name == "step/total"] == [0, 1, 2, 3]
    assert [step for name, step in seen if name == "epoch/ap"] == [1, 2]
    assert seen[-1] == ("closed", 0)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install anchordetr\[tensorboard\]"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / "other", epochs=1, tensorboard=True)

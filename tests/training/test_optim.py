"""Optimizer groups, schedules and learning rates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anchordetr.config import Config, TrainConfig
from anchordetr.training.optim import build_optimizer, build_scheduler, learning_rates


def test_the_papers_recipe_is_the_default() -> None:
    recipe = TrainConfig()
    assert (recipe.lr, recipe.backbone_lr, recipe.weight_decay, recipe.clip_max_norm) == (1e-4, 1e-5, 1e-4, 0.1)
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


def test_learning_rates_are_scaled_only_when_told(small_config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    settings = small_config.updated({"train.batch_size": 8, "train.lr": 1e-3, "train.backbone_lr": 1e-4}).train
    assert learning_rates(settings) == (1e-3, 1e-4)
    assert " the setting train.scale_lr=true would scale them to 0.0005 and 5e-05" in capsys.readouterr().err
    assert learning_rates(settings.model_copy(update={"scale_lr": True})) == (5e-4, 5e-5)
    assert "scaled from batch size 16 to 8" in capsys.readouterr().err
    learning_rates(settings.model_copy(update={"batch_size": 16}))
    assert capsys.readouterr().err == ""

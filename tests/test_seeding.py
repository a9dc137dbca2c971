"""Random numbers: nothing but a seed decides them, and nobody else's change."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.transforms import eval_transform, prepare_image
from anchordetr.models.presets import preset
from anchordetr.seeding import seed_of, seeded


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(())), float(torch.randn(()))]


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()
    return random.getstate(), kind, keys.tobytes(), rest, torch.get_rng_state().numpy().tobytes()


def test_a_seed_decides_the_numbers_inside_and_those_outside_go_on() -> None:
    seed_all(1)
    before = random_state()
    whole = [draw(), draw()]
    seed_all(1)
    assert random_state() == before
    first = draw()
    with seeded(5):
        inside = draw()
        with seeded(6):
            assert draw() != inside
    assert [first, draw()] == whole
    with seeded(5):
        assert draw() == inside


def test_an_error_inside_restores_the_states_too() -> None:
    before = random_state()
    with pytest.raises(ZeroDivisionError), seeded(2**64 - 1):
        draw()[0] / 0
    assert random_state() == before


def test_a_seed_depends_on_every_number() -> None:
    numbers = [(seed, epoch, step) for seed in (0, 1, 2**40) for epoch in range(4) for step in range(4)]
    assert len({seed_of(*each) for each in numbers}) == len(numbers)


@pytest.mark.parametrize("name", ["anchordetr_tiny", "anchordetr_v2_tiny"])
def test_building_and_predicting_leave_the_random_states_alone(name: str) -> None:
    config = preset(name).updated({"model.pretrained_backbone": False})
    image = np.full((50, 70, 3), 90, np.uint8)
    before = random_state()
    detector = Detector(config, class_names=["cat"], device="cpu")
    detector.predict(image, 0.0)
    list(detector.predict_each([image, image[:, ::2]], 0.0, layers=1))
    assert random_state() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluating_saving_and_loading_leave_the_random_states_alone(
    workers: int, small_config: Config, coco_folder: Path, tmp_path: Path
) -> None:
    config = small_config.updated({"data.workers": workers})
    detector = Detector(config, ["circle", "rectangle", "triangle"], device="cpu")
    before = random_state()
    metrics = detector.evaluate(coco_folder)
    detector.save_pretrained(tmp_path)
    again = Detector.from_pretrained(tmp_path, device="cpu").evaluate(coco_folder)
    assert random_state() == before
    assert again == metrics


def test_the_evaluation_transform_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = eval_transform(32, 64, (0.5,) * 3, (0.2,) * 3)
    image = torch.randint(256, (3, 40, 50), dtype=torch.uint8)
    for name in ("rand", "randn", "randint", "randperm"):
        monkeypatch.setattr(torch, name, _refuse)
    assert prepare_image(image, transform).shape == (3, 32, 40)


def _refuse(*arguments: Any, **options: Any) -> None:
    raise AssertionError("a random number was drawn")

"""The facts that list-models shows are those of the networks."""

from __future__ import annotations

import pytest

from anchordetr import create_model, list_models
from anchordetr.models.facts import FACTS, ModelFacts
from anchordetr.models.presets import preset
from anchordetr.profiling.model_flops import count_flops

SMALL = {name for name, facts in FACTS.items() if facts.flops < 1e10}
MODELS = [
    pytest.param(name, marks=() if name in SMALL else pytest.mark.slow)  # seconds to a minute each
    for name in FACTS
]


def test_every_preset_has_facts() -> None:
    assert sorted(FACTS) == list_models()


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_operations_are_those_of_the_network(name: str) -> None:
    model = create_model(name, pretrained_backbone=False)
    assert sum(parameter.numel() for parameter in model.parameters()) == FACTS[name].parameters
    assert count_flops(preset(name).updated({"model.pretrained_backbone": False})) == FACTS[name].flops


def test_operations_grow_with_the_image() -> None:
    config = preset("anchordetr_tiny").updated({"data.short_side": 128, "data.long_side": 214})
    assert 2 < count_flops(config) / FACTS["anchordetr_tiny"].flops < 4


def test_classes_of_time_are_relative_to_the_main_model() -> None:
    classes = [ModelFacts(1, 1, time, "").latency for time in (0.001, 0.1, 0.11, 1.0, 1.01)]
    assert classes == ["fast", "fast", "medium", "medium", "slow"]
    assert FACTS["anchordetr_r50_dc5"].relative_latency == 1.0

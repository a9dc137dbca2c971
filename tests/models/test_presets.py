"""Recipes go with every preset."""

from __future__ import annotations

import pytest

from anchordetr import list_models
from anchordetr.errors import UsageError
from anchordetr.models.presets import RECIPES, preset, recipe


@pytest.mark.parametrize("model", list_models())
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_changes_what_it_says_and_leaves_sizes_alone(name: str, model: str) -> None:
    before, after = preset(model), preset(model).updated(recipe(name))
    for key, value in recipe(name).items():
        section, _, setting = key.partition(".")
        assert getattr(getattr(after, section), setting) == value
    for size in ("backbone", "features", "embed_dim", "num_anchors", "num_patterns", "encoder_layers", "attention"):
        assert getattr(after.model, size) == getattr(before.model, size)
    assert after.data == before.data


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="Unknown recipe 'finetun'; known: finetune"):
        recipe("finetun")

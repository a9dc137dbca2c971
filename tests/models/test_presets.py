"""Recipes go with every preset; the second family learns and predicts."""

from __future__ import annotations

import pytest
import torch

from anchordetr import Target, create_model, list_models
from anchordetr.criterion import build_criterion
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


def test_an_unknown_recipe_names_the_one_that_is_meant() -> None:
    with pytest.raises(UsageError, match=r"Unknown recipe 'finetun'\. Did you mean 'finetune'\?"):
        recipe("finetun")


def test_the_second_family_learns_and_predicts() -> None:
    model = create_model("anchordetr_v2_tiny", num_classes=3)
    images = torch.randn(2, 3, 64, 64).unbind()
    targets = [Target(torch.rand(count, 4) / 4 + 0.25, torch.arange(count) % 3) for count in (4, 0)]
    predictions = model.train()(images, targets)
    assert set(predictions.auxiliary) == {"encoder", "denoising"}
    build_criterion(num_classes=3)(predictions, targets).total.backward()
    unused = {name.rsplit(".", 2)[0] for name, value in model.named_parameters() if value.grad is None}
    assert unused <= {"projection.key_encoder.mlp_1d"}  # rotary positions take the place of encoded columns and rows
    model.eval()
    with torch.inference_mode():
        expected, found = model(images), model.optimize_for_inference()(images)
    torch.testing.assert_close(found.boxes[0], expected.boxes[-1], atol=1e-5, rtol=0)

"""Settings reach the parts that they are about."""

from __future__ import annotations

from torch import nn

from anchordetr.config import ModelConfig
from anchordetr.models.builders import build_model


def test_settings_of_denoising_reach_its_source(small_model: ModelConfig) -> None:
    settings = {
        "denoising_groups": 3,
        "denoising_point_noise": 0.3,
        "denoising_label_noise": 0.1,
        "denoising_negatives": True,
    }
    source = build_model(small_model.model_copy(update=settings)).training_sources["denoising"]
    assert (source.groups, source.point_noise, source.label_noise, source.rings) == (3, 0.3, 0.1, 2)


def test_dropout_reaches_every_layer(small_model: ModelConfig) -> None:
    model = build_model(small_model.model_copy(update={"dropout": 0.25}))
    for part in (model.encoder, model.decoder):
        assert {module.p for module in part.modules() if isinstance(module, nn.Dropout)} == {0.25}


def test_query_points_share_the_position_encoder_of_the_keys_or_have_their_own(small_model: ModelConfig) -> None:
    for is_shared in (True, False):
        model = build_model(small_model.model_copy(update={"share_position_encoder": is_shared}))
        assert (model.projection.query_encoder is None) == is_shared

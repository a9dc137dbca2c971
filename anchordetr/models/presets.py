"""Named configurations: models with their own recipes, and recipes that suit any model."""

from __future__ import annotations

from typing import Any

from anchordetr.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from anchordetr.errors import UsageError, by_user, closest_match

PRESETS: dict[str, Config] = {
    "anchordetr_r50_c5": Config(),
    "anchordetr_r50_dc5": Config(model=ModelConfig(features="dc5")),
    "anchordetr_r101_c5": Config(model=ModelConfig(backbone="resnet101.tv_in1k")),
    "anchordetr_r101_dc5": Config(model=ModelConfig(backbone="resnet101.tv_in1k", features="dc5")),
    "anchordetr_tiny": Config(
        model=ModelConfig(
            backbone="hgnetv2_b0",
            pretrained_backbone=False,
            freeze_batch_norm=False,
            frozen_stages=0,
            features="c3",
            num_anchors=36,
            num_patterns=2,
            embed_dim=96,
            num_heads=6,
            encoder_layers=1,
            decoder_layers=2,
            ffn_dim=192,
            init="local",
            encoder_loss=True,
        ),
        data=DataConfig(
            short_side=64,
            long_side=107,
            train_short_sides=(64,),
            crop=False,
            flips=("horizontal", "vertical"),
            workers=0,
        ),
        loss=LossConfig(class_weight=8.0),
        train=TrainConfig(
            epochs=5,
            batch_size=16,
            lr_batch_size=16,
            lr=1.3e-3,
            backbone_lr=5e-3,
            warmup=0.05,
            clip_max_norm=1.0,
        ),
    ),
}

V2_PARTS = {
    "model.attention": "rcda_rotary",
    "model.init": "local",
    "model.encoder_loss": True,
    "model.queries": "proposals",
    "model.box_refinement": True,
    "model.box_offsets": "relative",
    "model.box_bias": True,
    "model.encode_sizes": True,
    "model.denoising_groups": 8,
    "model.denoising_negatives": True,
    "model.denoising_size_noise": 0.4,
}
"""What all presets of the second family change of the paper's network."""

V2_FUSION = {"model.features": "c3_c4_c5", "model.fusion_level": "c3"}
"""What the smaller ones change in addition."""

_SMALL = Config(
    model=ModelConfig(
        backbone="tf_efficientnet_lite0",
        num_anchors=100,
        num_patterns=1,
        embed_dim=128,
        encoder_layers=1,
        decoder_layers=3,
        ffn_dim=512,
    ),
    data=DataConfig(short_side=240, long_side=320, train_short_sides=(208, 224, 240, 256)),
    train=TrainConfig(lr=1e-3, backbone_lr=5e-4, warmup=0.05, clip_max_norm=1.0),
)
PRESETS |= {
    "anchordetr_v2_r50_dc5": PRESETS["anchordetr_r50_dc5"].updated(V2_PARTS),
    "anchordetr_v2_small": _SMALL.updated(V2_PARTS | V2_FUSION),
    "anchordetr_v2_tiny": PRESETS["anchordetr_tiny"].updated(V2_PARTS | V2_FUSION),
}

RECIPES: dict[str, dict[str, Any]] = {
    "finetune": {
        "model.init": "local",
        "model.encoder_loss": True,
        "model.denoising_groups": 8,
        "train.epochs": 60,
        "train.schedule": "cosine",
        "train.warmup": 0.05,
        "train.clip_max_norm": 1.0,
        "train.ema_decay": 0.995,
        "train.eval_every": 5,
    },
}


def list_models() -> list[str]:
    """Return the names that :func:`create_model` knows."""
    return sorted(PRESETS)


def preset(name: str) -> Config:
    """Return the configuration of a preset.

    Raises:
        UsageError: there is no preset of this name.
    """
    if name not in PRESETS:
        listing = by_user("anchordetr list-models", "anchordetr.list_models()")
        raise UsageError(f"Unknown model '{name}'.{closest_match(name, PRESETS, listing)}")
    return PRESETS[name]


def recipe(name: str) -> dict[str, Any]:
    """Return a recipe's settings, ``{"section.key": value}``, for :meth:`Config.updated`.

    ``finetune`` is for a few hundred images and a backbone with ImageNet weights (docs/training.md).

    Raises:
        UsageError: there is no recipe of this name.

    Example:
        >>> detector = Detector(preset("anchordetr_r50_c5").updated(recipe("finetune")))
    """
    if name not in RECIPES:
        raise UsageError(f"Unknown recipe '{name}'.{closest_match(name, RECIPES)}")
    return dict(RECIPES[name])

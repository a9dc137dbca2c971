"""The keys of the configuration as keyword arguments, for type checkers; tests/typed_settings.py writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class Settings(TypedDict, total=False):
    """Every key of the configuration by its name alone; docs/settings.md explains them."""

    # model
    num_classes: int
    backbone: str
    pretrained_backbone: bool
    backbone_weights: str | Path | None
    freeze_batch_norm: bool
    frozen_stages: int
    features: Literal["c3", "c4", "c5", "dc5", "c3_c4_dc5", "c4_c5", "c3_c4_c5"]
    fusion_level: Literal["c3", "c4", "c5"] | None
    attention: str
    queries: str
    anchors: str
    num_anchors: int
    num_patterns: int
    position_encoder: str
    share_position_encoder: bool
    embed_dim: int
    num_heads: int
    encoder_layers: int
    decoder_layers: int
    ffn_dim: int
    dropout: float
    init: Literal["paper", "local"]
    encoder_loss: bool
    box_refinement: bool
    box_offsets: Literal["logit", "relative"]
    box_bias: bool
    encode_sizes: bool
    query_groups: int
    denoising_groups: int
    denoising_point_noise: float
    denoising_size_noise: float | None
    denoising_label_noise: float
    denoising_negatives: bool
    # data
    layout: str
    val_fraction: float | None
    resolution: int | None
    short_side: int
    long_side: int
    train_short_sides: Sequence[int]
    crop: bool
    flips: Sequence[Literal["horizontal", "vertical"]]
    color_jitter: float
    random_scale: float
    mosaic: float
    mixup: float
    workers: int
    skip_broken: bool
    # loss
    class_weight: float
    box_weight: float
    giou_weight: float
    focal_alpha: float
    focal_gamma: float
    classification: Literal["focal", "varifocal"]
    # train
    epochs: int
    batch_size: int
    grad_accum_steps: int
    lr: float
    backbone_lr: float
    lr_batch_size: int
    scale_lr: bool
    weight_decay: float
    schedule: Literal["step", "cosine"]
    warmup: float
    drop_at: float
    clip_max_norm: float
    ema_decay: float
    freeze: Sequence[str]
    eval_every: int
    save_every: int
    early_stopping_patience: int
    precision: Literal["fp32", "bf16", "fp16"]
    deterministic: bool
    tensorboard: bool
    wandb: bool
    mlflow: bool
    gradient_checkpointing: bool
    seed: int
    anchors_from_data: bool

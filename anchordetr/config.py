"""Validated configuration of model, data, loss and training. Classes never see it; builders turn it into objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from anchordetr.errors import InputError, UsageError, closest_match


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Section):
    """Everything that decides what the network computes; the defaults are the paper's R50-C5.

    ``attention``, ``anchors``, ``position_encoder`` and ``backbone`` take registered names, ``backbone`` also any
    timm name. ``anchors`` takes ``none`` too: DETR's learned embedding queries (eq. 2). ``init`` chooses the values
    that training starts from: the paper's, or attention that looks at its own place (``models/initialization.py``).
    ``encoder_loss`` lets the locations of the encoded map learn from losses of their own in training.
    ``box_refinement`` lets each decoder layer start from the boxes before it. ``fusion_level`` sums all levels of
    ``features`` into one map of this level's size; without it each level stays a map of its own.

    ``query_groups`` counts the groups of queries that learn side by side in training, of which the first one answers.
    ``denoising_groups`` is the number of groups of denoising queries, 0 for none: their points move by up to
    ``denoising_point_noise`` of half the box, and a share ``denoising_label_noise`` of their labels is random;
    ``denoising_negatives`` adds queries farther away that have to find nothing.
    """

    num_classes: PositiveInt = 80
    backbone: str = "resnet50.tv_in1k"
    pretrained_backbone: bool = True
    backbone_weights: Path | None = None
    freeze_batch_norm: bool = True
    frozen_stages: int = Field(default=1, ge=0, le=4)
    features: Literal["c3", "c4", "c5", "dc5", "c3_c4_dc5", "c4_c5", "c3_c4_c5"] = "c5"
    fusion_level: Literal["c3", "c4", "c5"] | None = None
    attention: str = "rcda"
    queries: str = "anchors"
    anchors: str = "learned"
    num_anchors: PositiveInt = 300
    num_patterns: int = Field(default=3, ge=0)
    position_encoder: str = "sine_mlp"
    share_position_encoder: bool = True
    embed_dim: PositiveInt = 256
    num_heads: PositiveInt = 8
    encoder_layers: int = Field(default=6, ge=0)
    decoder_layers: PositiveInt = 6
    ffn_dim: PositiveInt = 1024
    dropout: float = Field(default=0.0, ge=0.0, le=1.0)
    init: Literal["paper", "local"] = "paper"
    encoder_loss: bool = False
    box_refinement: bool = False
    query_groups: PositiveInt = 1
    denoising_groups: int = Field(default=0, ge=0)
    denoising_point_noise: float = Field(default=0.4, ge=0.0)
    denoising_label_noise: float = Field(default=0.2, ge=0.0, le=1.0)
    denoising_negatives: bool = False

    @property
    def num_queries(self) -> int:
        """Q: the most objects that can be found in one image."""
        return self.num_anchors * max(self.num_patterns, 1)

    def without_pretraining(self) -> Self:
        """Return the same network with a backbone that starts from random weights, for weights of its own."""
        return self.model_copy(update={"pretrained_backbone": False, "backbone_weights": None})

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.embed_dim % 32 or self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim must be a multiple of 32 and of num_heads; got {self.embed_dim}")
        return self

    @model_validator(mode="after")
    def _check_anchors(self) -> Self:
        if self.box_refinement and self.queries == "embeddings":
            raise ValueError("box_refinement moves anchors; choose queries=anchors, or box_refinement=false")
        return self

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.features == "c3_c4_c5" and self.fusion_level is None:
            raise ValueError("features=c3_c4_c5 are maps of three sizes; sum them with fusion_level=c4 (or c3, c5)")
        return self


class DataConfig(_Section):
    """How images are read, resized and augmented.

    ``short_side`` and ``long_side`` are pixels: an image is resized so that its short side has ``short_side``, or its
    long side ``long_side`` if that is smaller. Training draws the short side from ``train_short_sides``.
    ``skip_broken`` decodes every image before the start and leaves out those that cannot be read, with a count.
    """

    layout: str = "auto"
    short_side: PositiveInt = 800
    long_side: PositiveInt = 1333
    train_short_sides: tuple[PositiveInt, ...] = tuple(range(480, 801, 32))
    crop: bool = True
    flips: tuple[Literal["horizontal", "vertical"], ...] = ("horizontal",)
    workers: int = Field(default=2, ge=0)
    skip_broken: bool = False


class LossConfig(_Section):
    """Weights of the losses and of the matching cost (section 4.1 of the paper).

    ``classification`` chooses the class loss: ``focal``, or ``varifocal``, which teaches a score that tells how well
    the box fits. ``focal_alpha`` and ``focal_gamma`` are those of the focal loss and of the matching cost.
    """

    class_weight: float = Field(default=2.0, ge=0.0)
    box_weight: float = Field(default=5.0, ge=0.0)
    giou_weight: float = Field(default=2.0, ge=0.0)
    focal_alpha: float = Field(default=0.25, ge=0.0, le=1.0)
    focal_gamma: float = Field(default=2.0, ge=0.0)
    classification: Literal["focal", "varifocal"] = "focal"


class TrainConfig(_Section):
    """The optimisation; the defaults are the paper's recipe.

    ``batch_size`` counts the images of an optimizer step: all processes share them, each in ``accumulate`` parts. The
    learning rates are those of ``lr_batch_size`` images; ``scale_lr`` scales them in proportion to ``batch_size``.

    ``schedule`` ``step`` divides the rates by 10 after the share ``drop_at`` of the training (40 of 50 epochs),
    ``cosine`` lets them fall to zero; ``warmup`` is the share of the training in which they rise.
    ``gradient_checkpointing`` saves memory: the transformer's layers compute their features again in the backward pass.

    ``ema`` is the decay of the moving average of the weights that is then evaluated and saved, 0 for none. ``freeze``
    names parts of the network that stay as they are, such as ``backbone`` or ``encoder.layers.0``. ``save_every`` saves
    after every so many steps too, ``patience`` stops after so many evaluations without a better AP; 0 is never.
    ``anchors_from_data`` lets learned anchors start where the objects of the training data are.
    """

    epochs: PositiveInt = 50
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    lr: float = Field(default=1e-4, gt=0.0)
    backbone_lr: float = Field(default=1e-5, ge=0.0)
    lr_batch_size: PositiveInt = 8
    scale_lr: bool = False
    weight_decay: float = Field(default=1e-4, ge=0.0)
    schedule: Literal["step", "cosine"] = "step"
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    drop_at: float = Field(default=0.8, ge=0.0, le=1.0)
    clip_norm: float = Field(default=0.1, gt=0.0)
    ema: float = Field(default=0.0, ge=0.0, lt=1.0)
    freeze: tuple[str, ...] = ()
    eval_every: PositiveInt = 1
    save_every: int = Field(default=0, ge=0)
    patience: int = Field(default=0, ge=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    deterministic: bool = False
    tensorboard: bool = False
    gradient_checkpointing: bool = False
    device: str = "auto"
    seed: int = Field(default=0, ge=0)
    anchors_from_data: bool = False


class Config(_Section):
    """The whole configuration of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check_anchors(self) -> Self:
        if self.train.anchors_from_data and self.model.anchors in ("grid", "none"):
            raise ValueError("train.anchors_from_data moves learned anchors; set model.anchors=learned")
        return self

    def updated(self, changes: Mapping[str, Any]) -> Config:
        """Return a copy with ``{"section.key": value}`` or ``{"section": {"key": value}}`` changed.

        Raises:
            UsageError: a key does not exist or a value does not fit.
        """
        values = self.model_dump()
        for key, value in flatten(changes).items():
            section, _, name = key.partition(".")
            if section not in values:
                raise UsageError(f"Unknown configuration section '{section}'.{closest_match(section, values)}")
            if name not in values[section]:
                known = [f"{section}.{known}" for known in values[section]]
                raise UsageError(f"Unknown configuration key '{key}'.{closest_match(key, known)}")
            values[section][name] = value
        return parse_config(values)


def parse_config(values: Mapping[str, Any]) -> Config:
    """Validate a whole configuration.

    Raises:
        UsageError: names the first value that does not fit.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if not key:
            raise UsageError(f"Configuration: {first['msg']}.") from error
        raise UsageError(f"Configuration key '{key}': {first['msg']} (got {first['input']!r}).") from error


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, with the old and the new value (None where there is none)."""
    old, new = flatten(before), flatten(now)
    return {key: (old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)}


def flatten(changes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file of changes to a preset.

    Raises:
        InputError: the file is missing or is no mapping in YAML or JSON.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"The configuration file {path} does not exist; check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The configuration file {path} is not valid YAML or JSON: {_one_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"The configuration file {path} must hold sections such as 'model:' with keys below them.")
    return values


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn ``["train.lr=1e-3", ...]`` into ``{"train.lr": 0.001}``; values are read as YAML, numbers as Python does.

    Raises:
        UsageError: an assignment has no ``=``.
    """
    changes = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise UsageError(
                f"--set {assignment} has no '='; write it as section.key=value, for example train.lr=1e-4."
            )
        changes[key.strip()] = _parse_value(text)
    return changes


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return yaml.safe_load(text)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

"""The sections ``data``, ``loss`` and ``train`` of the configuration: all of a training run but the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from anchordetr.config.section import Section
from anchordetr.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]
LARGEST_SIDE = 32768
"""Pixels; no larger image is computed."""
_STEP = 32  # pixels from one training size to the next: the largest stride of a feature map

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
PositiveCount = Annotated[int, Field(gt=0, le=1_000_000_000)]
Side = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]


class DataConfig(Section):
    """How images are read, resized and augmented."""

    prefix = "data."

    layout: str = Field(
        default="auto",
        examples=["auto", "coco", "roboflow", "shapes", "voc", "yolo"],
        description="Layout of the data set's files; `auto` detects it. Or a registered name.",
    )
    val_fraction: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        description="Fraction of the images of `train` that are held out as `val` if the data set has no such split, "
        "chosen by their names and `train.seed`; `null` holds out none.",
    )
    resolution: Side | None = Field(
        default=None,
        description="Pixels of the long side to which images are resized. It sets `short_side`, `long_side` and "
        "`train_short_sides`: the training sizes keep their ratio to the short side, in multiples of 32 up to the "
        "resolution. Changing one of the three alone sets it to `null`, which leaves the sizes to them.",
    )
    short_side: Side = Field(
        default=800, description="Pixels of the short side to which images are resized in evaluation and prediction."
    )
    long_side: Side = Field(
        default=1333,
        description="Largest number of pixels of the long side; an image that would exceed it is resized to it.",
    )
    train_short_sides: tuple[Side, ...] = Field(
        default=tuple(range(480, 801, 32)),
        min_length=1,
        description="Pixels of the short side that training chooses from at random.",
    )
    crop: bool = Field(
        default=True, description="Crop a random window of half of the training images before they are resized."
    )
    flips: tuple[Literal["horizontal", "vertical"], ...] = Field(
        default=("horizontal",),
        description="Directions in which training images are mirrored, each with probability 0.5. Add `vertical` where "
        "objects have no upright orientation, as under a microscope or from above.",
    )
    color_jitter: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Strength of random changes of brightness, contrast, saturation and hue of training images; 0 is "
        "none.",
    )
    random_scale: float = Field(
        default=0.0,
        ge=0.0,
        le=0.9,
        description="Large-scale jitter of training images: s scales them by a factor from 1 - s to 1 / (1 - s). "
        "Smaller ones are filled up with their mean color, larger ones are cropped; 0 is none.",
    )
    mosaic: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Probability that a training image is combined with three others in a grid of four.",
    )
    mixup: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Probability that a training image is mixed with another one; the objects of both are targets.",
    )
    workers: int = Field(
        default=2,
        ge=0,
        le=1024,
        description="Processes that load images, for each training process; 0 loads in the training process itself.",
    )
    skip_broken: bool = Field(
        default=False,
        description="Decode every image before the start and leave out those that cannot be read, with a count; "
        "`false` stops at the first one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _set_sizes(cls, values: Any) -> Any:
        resolution = values.get("resolution") if isinstance(values, Mapping) else None
        if not isinstance(resolution, int) or not 0 < resolution <= LARGEST_SIDE:
            return values
        fields = cls.model_fields
        sizes = sizes_of(resolution, fields["short_side"].default, fields["train_short_sides"].default)
        return {**sizes, **values}

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.resolution is None:
            return self
        for name in ("short_side", "long_side"):
            if (side := getattr(self, name)) != self.resolution:
                raise UsageError(_contradiction(self.resolution, name, side))
        if (longest := max(self.train_short_sides)) > self.resolution:
            raise UsageError(_contradiction(self.resolution, "train_short_sides", longest))
        return self


def sizes_of(resolution: int, short_side: int, train_short_sides: Sequence[int]) -> dict[str, Any]:
    """Return the sizes of images that a resolution stands for.

    Args:
        resolution: pixels of the long side of every image in evaluation, and of the largest in training.
        short_side, train_short_sides: the sizes before, whose ratio the training sizes keep.
    """
    scaled = (_STEP * round(side * resolution / short_side / _STEP) for side in train_short_sides)
    sides = {min(max(side, _STEP), resolution) for side in scaled}
    if max(train_short_sides) >= short_side:
        sides = {side for side in sides if side < resolution - _STEP // 2} | {resolution}
    return {"short_side": resolution, "long_side": resolution, "train_short_sides": tuple(sorted(sides))}


def _contradiction(resolution: int, name: str, side: int) -> str:
    return (
        f"data.resolution={resolution} contradicts data.{name}={side}; give the resolution alone, or set it to null "
        "to choose the sizes yourself."
    )


class LossConfig(Section):
    """Weights of the losses and of the matching costs (section 4.1 of the paper)."""

    prefix = "loss."

    class_weight: float = Field(default=2.0, ge=0.0, description="Weight of the class loss and the class cost.")
    box_weight: float = Field(
        default=5.0, ge=0.0, description="Weight of the L1 loss and cost of boxes, as fractions of the image."
    )
    giou_weight: float = Field(
        default=2.0, ge=0.0, description="Weight of the generalised IoU loss and cost of the boxes."
    )
    focal_alpha: float = Field(
        default=0.25, ge=0.0, le=1.0, description="Weight of objects against background in focal loss and class cost."
    )
    focal_gamma: float = Field(
        default=2.0,
        ge=0.0,
        description="Focusing parameter of focal loss and class cost: the larger, the less easy examples count.",
    )
    classification: Literal["focal", "varifocal"] = Field(
        default="focal",
        description="Class loss: `focal`, or `varifocal`, whose target score is the IoU of box and object, so that "
        "scores rank boxes by how well they fit.",
    )


class TrainConfig(Section):
    """The optimization; the defaults are the paper's recipe."""

    prefix = "train."

    epochs: PositiveCount = Field(default=50, description="Passes over the training images.")
    batch_size: PositiveCount = Field(
        default=8, description="Images of an optimizer step, shared by all training processes."
    )
    grad_accum_steps: PositiveCount = Field(
        default=1,
        description="Parts into which each process splits its share of a step; more parts need less memory, and change "
        "results only where batch norm is not frozen.",
    )
    lr: float = Field(default=1e-4, gt=0.0, description="Learning rate of everything but the backbone.")
    backbone_lr: float = Field(default=1e-5, ge=0.0, description="Learning rate of the backbone.")
    lr_batch_size: PositiveCount = Field(
        default=8, description="The `batch_size` that the learning rates are meant for."
    )
    scale_lr: bool = Field(
        default=False, description="Multiply the learning rates by `batch_size` / `lr_batch_size`; a message says so."
    )
    weight_decay: float = Field(default=1e-4, ge=0.0, description="Weight decay of AdamW, for all weights.")
    schedule: Literal["step", "cosine"] = Field(
        default="step",
        description="How the learning rates fall: to a tenth after `drop_at` (`step`), or along a cosine to zero at "
        "the end, which needs no choice of when to drop (`cosine`).",
    )
    warmup: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of all steps in which the learning rates rise from zero."
    )
    drop_at: float = Field(
        default=0.8,
        ge=0.0,
        le=1.0,
        description="Share of all steps after which `step` divides the learning rates by 10.",
    )
    clip_max_norm: float = Field(
        default=0.1,
        gt=0.0,
        description="Largest norm of the gradient; a longer one is scaled down to it. 0.1 suits long training runs, "
        "1.0 short ones.",
    )
    ema_decay: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Decay of the exponential moving average (EMA) of the weights, which is then evaluated and saved; "
        "it rises from 0.1 in the first steps. 0 is no EMA.",
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        examples=["backbone", "encoder.layers.0"],
        description="Parts of the network whose weights stay as they are.",
    )
    eval_every: PositiveCount = Field(default=1, description="Epochs from one evaluation to the next.")
    save_every: Count = Field(
        default=0,
        description="Steps after which the training state is saved, in addition to after each epoch; 0 is never.",
    )
    early_stopping_patience: Count = Field(
        default=0, description="Evaluations without a better AP after which training stops; 0 is never."
    )
    precision: Precision = Field(
        default="fp32",
        description="Number format of the network's computations; weights and losses stay `fp32`. `bf16` needs less "
        "memory and time on GPUs that have it, `fp16` on older ones.",
    )
    deterministic: bool = Field(
        default=False,
        description="Use deterministic algorithms only, slower on a GPU; an operation that has none stops the run.",
    )
    tensorboard: bool = Field(
        default=False, description="Write TensorBoard logs too; needs the extra `anchordetr[tensorboard]`."
    )
    wandb: bool = Field(default=False, description="Log to Weights & Biases too; needs the extra `anchordetr[wandb]`.")
    mlflow: bool = Field(default=False, description="Log to MLflow too; needs the extra `anchordetr[mlflow]`.")
    gradient_checkpointing: bool = Field(
        default=False,
        description="Save memory: the backward pass recomputes the features of the transformer's layers.",
    )
    seed: int = Field(
        default=0, ge=0, le=2**63 - 1, description="Seed of initial weights, order of images and augmentation."
    )
    anchors_from_data: bool = Field(
        default=False,
        description="Let learned anchors start at the centers of the training data's objects, found by k-means.",
    )

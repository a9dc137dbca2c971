"""The section ``model`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from anchordetr.config.section import Section
from anchordetr.errors import UsageError
from anchordetr.feature_levels import FeatureSet, FusionLevel

_MOST_PARAMETERS = 2_000_000_000
_MOST_QUERIES = 100_000


class ModelConfig(Section):
    """What the network computes; the defaults are the paper's R50-C5."""

    prefix = "model."

    num_classes: PositiveInt = Field(
        default=80,
        le=100_000,
        description="Number of classes K. Training sets it to the number of classes of the data set.",
    )
    backbone: str = Field(
        default="resnet50.tv_in1k",
        examples=["resnet50.tv_in1k", "resnet101.tv_in1k"],
        description="Any timm network that returns feature maps, by its name in timm, or a registered name.",
    )
    pretrained_backbone: bool = Field(
        default=True, description="Start from timm's ImageNet weights of the backbone, fetched over the network."
    )
    backbone_weights: Path | None = Field(
        default=None, description="File with timm's weights of the backbone, to start from instead of fetching them."
    )
    freeze_batch_norm: bool = Field(
        default=True,
        description="Keep statistics and parameters of the backbone's batch norm fixed, which suits small batches; "
        "`false` lets them learn, for a backbone that starts from random weights.",
    )
    frozen_stages: int = Field(
        default=1,
        ge=0,
        le=4,
        description="Number of the backbone's first stages whose weights stay fixed; the stem belongs to the first.",
    )
    features: FeatureSet = Field(
        default="c5",
        description="Feature levels that are read: `c3`, `c4`, `c5` of stride 8, 16, 32, and `dc5`, the last stage "
        "dilated to stride 16; several are joined by `_`. A finer map finds smaller objects and costs more.",
    )
    fusion_level: FusionLevel | None = Field(
        default=None,
        description="Sum all levels of `features` into one map of this level's size; `null` keeps each level a map of "
        "its own.",
    )
    attention: str = Field(
        default="rcda",
        examples=["rcda", "rcda_rotary", "standard"],
        description="Attention to the feature map: row-column decoupled (`rcda`), the same with rotary positions "
        "(`rcda_rotary`), multi-head attention over all locations (`standard`), or a registered name.",
    )
    queries: str = Field(
        default="anchors",
        examples=["anchors", "embeddings", "proposals"],
        description="Source of the queries: the points of `anchors`, DETR's learned embeddings without a point "
        "(`embeddings`, eq. 2 of the paper), the best locations of the encoded map (`proposals`), or a registered "
        "name.",
    )
    anchors: str = Field(
        default="learned",
        examples=["learned", "grid"],
        description="Anchor points of the queries: `learned`, a fixed square `grid` (their number is rounded to a "
        "square), or a registered name.",
    )
    num_anchors: PositiveInt = Field(
        default=300,
        le=100_000,
        description="Number of anchor points A, or of queries per pattern where there are none. A times "
        "`num_patterns` is the largest number of objects that can be found in one image.",
    )
    num_patterns: NonNegativeInt = Field(
        default=3,
        le=1000,
        description="Number of queries at each anchor, so that several objects at one place can be found; 0 is one "
        "query with content zero, as in DETR.",
    )
    position_encoder: str = Field(
        default="sine_mlp",
        examples=["sine_mlp", "sine"],
        description="Encoding of positions: sines (`sine`), sines and a learned two-layer MLP (`sine_mlp`), or a "
        "registered name.",
    )
    share_position_encoder: bool = Field(
        default=True, description="Encode positions of queries and keys with the same weights."
    )
    embed_dim: PositiveInt = Field(
        default=256, le=8192, description="Channels C of the transformer; a multiple of 32 and of `num_heads`."
    )
    num_heads: PositiveInt = Field(default=8, le=256, description="Heads of every attention.")
    encoder_layers: NonNegativeInt = Field(
        default=6,
        le=100,
        description="Number of encoder layers. With several maps, half of them attend between the levels instead.",
    )
    decoder_layers: PositiveInt = Field(default=6, le=100, description="Number of decoder layers; each one predicts.")
    ffn_dim: PositiveInt = Field(default=1024, le=65_536, description="Hidden channels of the feed-forward networks.")
    dropout: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Probability with which training drops a value inside attention and feed-forward networks.",
    )
    init: Literal["paper", "local"] = Field(
        default="paper",
        description="Initial weights of the transformer: the paper's, or such that each query attends to its own "
        "location from the first step (`local`), which helps where images or epochs are few.",
    )
    encoder_loss: bool = Field(
        default=False,
        description="In training, let each location of the encoded map predict too, with its own losses, so that "
        "backbone and encoder get gradients that do not pass through the decoder.",
    )
    box_refinement: bool = Field(
        default=False, description="Let each decoder layer start from the boxes of the layer before, not from anchors."
    )
    box_offsets: Literal["logit", "relative"] = Field(
        default="logit",
        description="With `box_refinement`, what is added to the boxes of the layer before: offsets before the sigmoid "
        "(`logit`), or parts of their size (`relative`).",
    )
    box_bias: bool = Field(
        default=False,
        description="Let the decoder's row-column attention add to the logits of columns and rows what an MLP makes of "
        "their distances to the edges of a query's box.",
    )
    encode_sizes: bool = Field(
        default=False, description="With `box_refinement`, let queries know the sizes of each other's boxes."
    )
    query_groups: PositiveInt = Field(
        default=1,
        le=100,
        description="Groups of queries that are trained in parallel, each matched with all objects; inference "
        "uses the first one. 1 is the paper's.",
    )
    denoising_groups: NonNegativeInt = Field(
        default=0,
        le=1000,
        description="Groups of denoising queries in training: every group contains each object once, with noise, "
        "and the decoder learns to undo the noise. 0 is none.",
    )
    denoising_point_noise: float = Field(
        default=0.4,
        ge=0.0,
        le=100.0,
        description="Largest shift of the point of a denoising query, as a fraction of half the box.",
    )
    denoising_size_noise: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="Largest change of the width and height of a denoising query, as a fraction of the box; `null` "
        "gives points without a size.",
    )
    denoising_label_noise: float = Field(
        default=0.2, ge=0.0, le=1.0, description="Probability that a denoising query gets a random label."
    )
    denoising_negatives: bool = Field(
        default=False,
        description="Add to each denoising query one that moves by one to two times as far and is to predict that "
        "there is no object.",
    )

    @property
    def num_queries(self) -> int:
        """Q, the largest number of objects that can be found in one image."""
        return self.num_anchors * max(self.num_patterns, 1)

    @property
    def least_parameters(self) -> int:
        """A number of parameters that the network has at least, however its attention and its queries are built."""
        layers = (
            2 * self.ffn_dim * (self.encoder_layers + self.decoder_layers) + 4 * self.embed_dim * self.decoder_layers
        )
        return self.embed_dim * (layers + self.num_classes)

    def without_pretraining(self) -> Self:
        """Return the same network without pretrained backbone weights, to load weights of the whole network into."""
        return self.model_copy(update={"pretrained_backbone": False, "backbone_weights": None})

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.embed_dim % 32 or self.embed_dim % self.num_heads:
            raise UsageError(f"model.embed_dim must be a multiple of 32 and of num_heads; got {self.embed_dim}.")
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> Self:
        if self.least_parameters > _MOST_PARAMETERS:
            raise UsageError(
                f"model.embed_dim={self.embed_dim}, ffn_dim={self.ffn_dim}, encoder_layers={self.encoder_layers}, "
                f"decoder_layers={self.decoder_layers} and num_classes={self.num_classes} make more than "
                f"{self.least_parameters:,} parameters; at most {_MOST_PARAMETERS:,} are built. Lower one of them."
            )
        if self.num_queries * self.query_groups > _MOST_QUERIES:
            raise UsageError(
                f"model.num_anchors={self.num_anchors}, num_patterns={self.num_patterns} and query_groups="
                f"{self.query_groups} make {self.num_queries * self.query_groups:,} queries; at most {_MOST_QUERIES:,} "
                "are built. Lower one of them."
            )
        return self

    @model_validator(mode="after")
    def _check_queries(self) -> Self:
        if self.box_refinement and self.queries == "embeddings":
            raise UsageError("model.box_refinement moves anchors; choose queries=anchors, or box_refinement=false.")
        return self

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.features == "c3_c4_c5" and self.fusion_level is None:
            raise UsageError(
                "model.features=c3_c4_c5 are maps of three sizes; sum them with fusion_level=c4 (or c3, c5)."
            )
        return self

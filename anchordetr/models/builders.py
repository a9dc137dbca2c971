"""From configuration to modules: :func:`create_model` and its builders. The only file that does so."""

from __future__ import annotations

from inspect import signature
from typing import get_args

from torch import nn

from anchordetr.config import ModelConfig
from anchordetr.errors import UsageError
from anchordetr.feature_levels import STRIDES, FusionLevel
from anchordetr.layers.attention import MultiLevelAttention
from anchordetr.layers.backbone import Backbone, TimmBody
from anchordetr.layers.box_bias import BoxBias
from anchordetr.layers.decoder import Decoder, DecoderLayer, RefiningDecoder
from anchordetr.layers.denoising import DenoisingQueries
from anchordetr.layers.encoder import Encoder, EncoderLayer, LevelEncoderLayer
from anchordetr.layers.feature_fusion import FeatureFusion
from anchordetr.layers.feed_forward import FeedForward
from anchordetr.layers.heads import AnchorBoxHead, ClassHead, Heads, RefiningBoxHead, RelativeBoxHead
from anchordetr.layers.position import SinePositionEncoder, SizeEncoder
from anchordetr.layers.projection import InputProjection, Projection
from anchordetr.layers.proposals import EncoderHead, EncoderPredictions, ProposalQueries
from anchordetr.layers.query_sources import AnchorQueries, EmbeddingQueries, Patterns, QuerySource
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.initialization import initialize_locally
from anchordetr.models.presets import preset
from anchordetr.rcda.onednn import Linear
from anchordetr.registry import ANCHORS, ATTENTIONS, BACKBONES, POSITION_ENCODERS, QUERY_SOURCES


def create_model(name: str, num_classes: int = 80, pretrained_backbone: bool = True) -> AnchorDETR:
    """Build a preset's network with random transformer weights.

    Args:
        name: see :func:`~anchordetr.models.presets.list_models`.
        num_classes: K.
        pretrained_backbone: load the backbone's ImageNet weights, where the preset uses them.

    Raises:
        UsageError: there is no preset of this name.
        InputError: the backbone's weights cannot be fetched.
    """
    model = preset(name).model
    changes = {"num_classes": num_classes, "pretrained_backbone": model.pretrained_backbone and pretrained_backbone}
    return build_model(model.model_copy(update=changes))


def build_model(config: ModelConfig) -> AnchorDETR:
    """Build the network that a configuration describes, with random transformer weights.

    Raises:
        UsageError: a name in the configuration is unknown, or ``fusion_level`` is not a level of the backbone.
        InputError: the backbone's weights cannot be loaded.
    """
    backbone = build_backbone(config)
    levels = 1 if config.fusion_level else len(backbone.channels)
    model = AnchorDETR(
        backbone=backbone,
        projection=build_projection(config, backbone),
        encoder=build_encoder(config, levels),
        queries=build_queries(config),
        decoder=build_decoder(config, levels),
        heads=build_heads(config),
        training_sources=build_training_sources(config),
    )
    if config.init == "local":
        initialize_locally(model)
    return model


def build_backbone(config: ModelConfig) -> Backbone:
    """Build a registered backbone, or timm's network of this name."""
    if config.backbone in BACKBONES.names():
        return Backbone(BACKBONES[config.backbone]())
    return Backbone(
        TimmBody(
            config.backbone,
            config.features,
            pretrained=config.pretrained_backbone,
            weights=config.backbone_weights,
            freeze_batch_norm=config.freeze_batch_norm,
            frozen_stages=config.frozen_stages,
        )
    )


def build_projection(config: ModelConfig, backbone: Backbone) -> Projection:
    """Build the projection of the backbone's maps to C channels: one level per map, or all maps fused into one.

    Raises:
        UsageError: ``fusion_level`` is not a level of the backbone.
    """
    key_encoder = build_position_encoder(config)
    query_encoder = None if config.share_position_encoder else build_position_encoder(config)
    if config.fusion_level is None:
        return InputProjection(
            channels=backbone.channels, strides=backbone.strides, key_encoder=key_encoder, query_encoder=query_encoder
        )
    stride = STRIDES[config.fusion_level]
    if stride not in backbone.strides:
        known = ", ".join(level for level in get_args(FusionLevel) if STRIDES[level] in backbone.strides)
        raise UsageError(
            f"model.fusion_level={config.fusion_level} is not a level of the backbone; it has {known or 'none'}."
        )
    return FeatureFusion(
        channels=backbone.channels,
        strides=backbone.strides,
        stride=stride,
        key_encoder=key_encoder,
        query_encoder=query_encoder,
    )


def build_position_encoder(config: ModelConfig) -> SinePositionEncoder:
    """Build the position encoder of queries or keys."""
    encoder: SinePositionEncoder = POSITION_ENCODERS[config.position_encoder](config.embed_dim)
    return encoder


def build_queries(config: ModelConfig) -> nn.Module:
    """Build the registered query source."""
    source: nn.Module = QUERY_SOURCES[config.queries](config)
    return source


@QUERY_SOURCES.register("anchors")
def build_anchor_queries(config: ModelConfig) -> QuerySource:
    """Build queries at anchor points of a registered kind."""
    return AnchorQueries(anchors=ANCHORS[config.anchors](config.num_anchors), patterns=build_patterns(config))


@QUERY_SOURCES.register("embeddings")
def build_embedding_queries(config: ModelConfig) -> QuerySource:
    """Build DETR's learned embeddings."""
    return EmbeddingQueries(num_queries=config.num_anchors, patterns=build_patterns(config), embed_dim=config.embed_dim)


@QUERY_SOURCES.register("proposals")
def build_proposal_queries(config: ModelConfig) -> QuerySource:
    """Build queries from the encoder's proposals."""
    return ProposalQueries(head=build_encoder_head(config), num_queries=config.num_queries)


def build_patterns(config: ModelConfig) -> Patterns:
    """Build the pattern embeddings: the initial content of the queries."""
    return Patterns(config.num_patterns, config.embed_dim)


def build_training_sources(config: ModelConfig) -> dict[str, nn.Module]:
    """Build the query sources used only in training, by the name of their predictions in ``Predictions.auxiliary``."""
    sources: dict[str, nn.Module] = {
        f"group_{number}": build_queries(config) for number in range(1, config.query_groups)
    }
    if config.denoising_groups:
        sources["denoising"] = build_denoising(config)
    if config.encoder_loss and config.queries != "proposals":
        sources["encoder"] = EncoderPredictions(build_encoder_head(config))
    return sources


def build_denoising(config: ModelConfig) -> DenoisingQueries:
    """Build the source of denoising queries."""
    return DenoisingQueries(
        num_classes=config.num_classes,
        embed_dim=config.embed_dim,
        groups=config.denoising_groups,
        point_noise=config.denoising_point_noise,
        label_noise=config.denoising_label_noise,
        negatives=config.denoising_negatives,
        size_noise=config.denoising_size_noise,
    )


def build_encoder_head(config: ModelConfig) -> EncoderHead:
    """Build the head that predicts at every location of the memory, with its own class head and box head."""
    return EncoderHead(
        projection=Linear(config.embed_dim, config.embed_dim),
        norm=nn.LayerNorm(config.embed_dim),
        heads=build_heads(config),
    )


def build_heads(config: ModelConfig) -> Heads:
    """Build a class head and a box head."""
    refining = {"logit": RefiningBoxHead, "relative": RelativeBoxHead}[config.box_offsets]
    box_head = (refining if config.box_refinement else AnchorBoxHead)(config.embed_dim)
    return Heads(class_head=ClassHead(config.embed_dim, config.num_classes), box_head=box_head)


def build_encoder(config: ModelConfig, levels: int) -> Encoder:
    """Build the encoder; with several levels, half of the layers (rounded down) attend between levels."""
    level_layers = config.encoder_layers // 2 if levels > 1 else 0
    return Encoder(
        layers=[
            EncoderLayer(
                attention=build_map_attention(config),
                feed_forward=build_feed_forward(config),
                norm=nn.LayerNorm(config.embed_dim),
                dropout=config.dropout,
            )
            for _ in range(config.encoder_layers - level_layers)
        ],
        level_layers=[
            LevelEncoderLayer(
                attention=build_self_attention(config),
                feed_forward=build_feed_forward(config),
                norm=nn.LayerNorm(config.embed_dim),
                dropout=config.dropout,
            )
            for _ in range(level_layers)
        ],
        level_embedding=nn.Embedding(levels, config.embed_dim) if level_layers else None,
    )


def build_decoder(config: ModelConfig, levels: int) -> Decoder | RefiningDecoder:
    """Build the decoder, whose queries stay at their anchors or move from layer to layer."""
    layers = [build_decoder_layer(config, levels) for _ in range(config.decoder_layers)]
    if not config.box_refinement:
        return Decoder(layers=layers)
    return RefiningDecoder(layers=layers, size_encoder=SizeEncoder(config.embed_dim) if config.encode_sizes else None)


def build_decoder_layer(config: ModelConfig, levels: int) -> DecoderLayer:
    """Build one decoder layer."""
    cross_attention = build_map_attention(
        config, **({"box_bias": BoxBias(config.num_heads)} if config.box_bias else {})
    )
    if levels > 1:
        merge = nn.Linear(config.embed_dim * levels, config.embed_dim)
        cross_attention = MultiLevelAttention(attention=cross_attention, merge=merge)
    return DecoderLayer(
        self_attention=build_self_attention(config),
        cross_attention=cross_attention,
        feed_forward=build_feed_forward(config),
        self_norm=nn.LayerNorm(config.embed_dim),
        cross_norm=nn.LayerNorm(config.embed_dim),
        dropout=config.dropout,
    )


def build_map_attention(config: ModelConfig, **parts: nn.Module) -> nn.Module:
    """Build the registered attention to the feature map, with parts for some of its arguments.

    Raises:
        UsageError: the attention has no such argument.
    """
    kind = ATTENTIONS[config.attention]
    if missing := parts.keys() - signature(kind).parameters.keys():
        raise UsageError(
            f"model.attention={config.attention} has no {', '.join(missing)}; choose rcda or rcda_rotary, or switch it "
            "off."
        )
    attention: nn.Module = kind(config.embed_dim, config.num_heads, config.dropout, **parts)
    return attention


def build_self_attention(config: ModelConfig) -> nn.MultiheadAttention:
    """Build the attention between queries, or between levels."""
    return nn.MultiheadAttention(config.embed_dim, config.num_heads, config.dropout, batch_first=True)


def build_feed_forward(config: ModelConfig) -> FeedForward:
    """Build the feed-forward network of a layer."""
    return FeedForward(config.embed_dim, config.ffn_dim, config.dropout)

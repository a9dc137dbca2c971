"""Parameter names of the original implementation and of detrex, and the architecture inferred from shapes.

The names are those of ``models/`` in the original's repository; detrex's port differs in the input projection only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from anchordetr.config import ModelConfig, parse_config
from anchordetr.errors import InputError, UsageError
from anchordetr.models.anchor_detr import TRAINING_ONLY

_SHARED_RULES: tuple[tuple[str, str], ...] = (
    ("backbone.body.", "backbone.body.network."),
    ("input_proj.#.0.", "projection.convolutions.#."),
    ("input_proj.#.1.", "projection.norms.#."),
    ("transformer.encoder_layers.#.self_attn.", "encoder.layers.#.attention.attention."),
    ("transformer.encoder_layers.#.norm1.", "encoder.layers.#.norm."),
    ("transformer.encoder_layers.#.ffn.norm2.", "encoder.layers.#.feed_forward.norm."),
    ("transformer.encoder_layers.#.ffn.", "encoder.layers.#.feed_forward."),
    ("transformer.encoder_layers_level.#.self_attn_level.", "encoder.level_layers.#.attention."),
    ("transformer.encoder_layers_level.#.norm1.", "encoder.level_layers.#.norm."),
    ("transformer.encoder_layers_level.#.ffn.norm2.", "encoder.level_layers.#.feed_forward.norm."),
    ("transformer.encoder_layers_level.#.ffn.", "encoder.level_layers.#.feed_forward."),
    ("transformer.level_embed.", "encoder.level_embedding."),
    ("transformer.decoder_layers.#.self_attn.", "decoder.layers.#.self_attention."),
    ("transformer.decoder_layers.#.norm2.", "decoder.layers.#.self_norm."),
    ("transformer.decoder_layers.#.level_fc.", "decoder.layers.#.cross_attention.merge."),
    ("transformer.decoder_layers.#.norm1.", "decoder.layers.#.cross_norm."),
    ("transformer.decoder_layers.#.ffn.norm2.", "decoder.layers.#.feed_forward.norm."),
    ("transformer.decoder_layers.#.ffn.", "decoder.layers.#.feed_forward."),
    ("transformer.pattern.", "queries.patterns."),
    ("transformer.position.weight", "queries.anchors.points"),
    ("transformer.adapt_pos1d.", "projection.key_encoder.mlp_1d."),
    ("transformer.adapt_pos2d.", "projection.key_encoder.mlp_2d."),
    ("transformer.class_embed.0.", "heads.class_head."),
    ("transformer.bbox_embed.0.layers.0.", "heads.box_head.layers.0."),
    ("transformer.bbox_embed.0.layers.1.", "heads.box_head.layers.2."),
    ("transformer.bbox_embed.0.layers.2.", "heads.box_head.layers.4."),
)
_CROSS_ATTENTION = "transformer.decoder_layers.#.cross_attn."
_ONE_LEVEL = (*_SHARED_RULES, (_CROSS_ATTENTION, "decoder.layers.#.cross_attention.attention."))
_SEVERAL_LEVELS = (*_SHARED_RULES, (_CROSS_ATTENTION, "decoder.layers.#.cross_attention.attention.attention."))
_HEAD_COPY = re.compile(r"transformer\.(class|bbox)_embed\.(\d+)\.")
_COUNTERS = ("total_ops", "total_params")  # left in some files by a profiler
_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {  # has bottlenecks, blocks of the four stages
    (False, (2, 2, 2, 2)): "resnet18.tv_in1k",
    (False, (3, 4, 6, 3)): "resnet34.tv_in1k",
    (True, (3, 4, 6, 3)): "resnet50.tv_in1k",
    (True, (3, 4, 23, 3)): "resnet101.tv_in1k",
    (True, (3, 8, 36, 3)): "resnet152.tv_in1k",
}
_NEEDED = {  # and the number of their dimensions
    "heads.class_head.weight": 2,
    "heads.class_head.bias": 1,
    "queries.patterns.weight": 2,
    "decoder.layers.0.self_attention.in_proj_weight": 2,
    "decoder.layers.0.feed_forward.linear1.weight": 2,
}
_OTHER_ARCHITECTURES = (  # part of a parameter's name, architecture
    ("sampling_offsets", "Deformable DETR or one of its successors"),
    ("ref_point_head", "Conditional DETR or DAB-DETR"),
    ("query_embed", "DETR"),
    ("model.backbone.conv_encoder", "a DETR of Hugging Face transformers"),
    ("roi_heads", "Faster R-CNN"),
    ("rpn.head", "Faster R-CNN"),
    ("retina_net", "RetinaNet"),
    ("model.22.", "YOLO"),
    ("layer4.0.conv1", "a ResNet"),
    ("blocks.0.attn", "a vision transformer"),
)


def is_detrex(state: Mapping[str, Tensor]) -> bool:
    """Return whether the names are those of detrex's port, whose input projection is not a list of levels."""
    return "input_proj.0.weight" in state


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of the original implementation, or of detrex's port, under the names of this library.

    Both store the shared class head and box head once per decoder layer, and frozen batch norm without batch counters.

    Raises:
        InputError: these are not the parameters of an Anchor DETR; the message names the likely architecture.
    """
    state = {key: tensor for key, tensor in state.items() if not key.endswith(_COUNTERS)}
    if is_detrex(state):
        state = {re.sub(r"^input_proj\.", "input_proj.0.", key): tensor for key, tensor in state.items()}
    rules = _SEVERAL_LEVELS if any("level_fc" in key for key in state) else _ONE_LEVEL
    own = {key: tensor for key, tensor in state.items() if not _is_copy(key, state)}
    names = {key: _translate(key, rules) for key in own}
    unknown = [key for key, name in names.items() if name is None]
    renamed = {str(name): own[key] for key, name in names.items()}
    if unknown or any(name not in renamed for name in _NEEDED):
        raise InputError(_foreign_message(state, unknown))
    if misshapen := [name for name, dimensions in _NEEDED.items() if renamed[name].ndim != dimensions]:
        raise InputError(f"The parameters are not those of an Anchor DETR: {misshapen[0]} has another shape.")
    counters = (name.replace("running_var", "num_batches_tracked") for name in renamed if name.endswith("running_var"))
    return renamed | {name: torch.zeros((), dtype=torch.int64) for name in counters}


def to_original(state: Mapping[str, Tensor], decoder_layers: int) -> dict[str, Tensor]:
    """Return the parameters under the original's names, with the shared heads once per decoder layer.

    Raises:
        UsageError: the original has no equivalent of a parameter.
    """
    several = any("cross_attention.merge" in name for name in state)
    rules = [(ours, theirs) for theirs, ours in (_SEVERAL_LEVELS if several else _ONE_LEVEL)]
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked") or name.startswith(TRAINING_ONLY):
            continue
        key = _translate(name, rules)
        if key is None:
            raise UsageError(f"The original Anchor DETR has no parameter for '{name}'; it cannot represent this model.")
        copies = range(decoder_layers) if _HEAD_COPY.match(key) else (0,)
        renamed |= {_HEAD_COPY.sub(rf"transformer.\1_embed.{copy}.", key): tensor for copy in copies}
    return renamed


def read_architecture(
    state: Mapping[str, Tensor], features: str, num_heads: int = 8, grid_anchors: int = 300
) -> ModelConfig:
    """Return the configuration of a network, inferred from the shapes of its weights.

    Args:
        state: weights under the names of this library.
        features: ``c5`` or ``dc5``, or ``c3_c4_dc5`` for three levels; not visible in the weights.
        num_heads: M, not visible in the weights either.
        grid_anchors: number of anchors of a grid, which has no weights.

    Raises:
        InputError: the backbone is not one of the original's ResNets, or a shape or a number of heads is not possible.
    """
    num_classes, embed_dim = state["heads.class_head.weight"].shape
    points = state.get("queries.anchors.points")
    in_projection = state["decoder.layers.0.self_attention.in_proj_weight"].shape
    is_standard = any(
        re.search(r"cross_att.*in_proj_weight", name) and tensor.shape == in_projection
        for name, tensor in state.items()
    )
    values = {
        "num_classes": num_classes,
        "backbone": _read_backbone(state),
        "pretrained_backbone": False,
        "features": features,
        "attention": "standard" if is_standard else "rcda",
        "anchors": "grid" if points is None else "learned",
        "num_anchors": grid_anchors if points is None else points.shape[:1].numel(),
        "num_patterns": len(state["queries.patterns.weight"]),
        "embed_dim": embed_dim,
        "num_heads": num_heads,
        "encoder_layers": _count(state, "encoder.layers.") + _count(state, "encoder.level_layers."),
        "decoder_layers": _count(state, "decoder.layers."),
        "ffn_dim": len(state["decoder.layers.0.feed_forward.linear1.weight"]),
    }
    try:
        return parse_config({"model": values}).model
    except UsageError as error:
        raise InputError(f"The parameters are not those of an Anchor DETR: {error}") from error


def check_representable(config: ModelConfig) -> None:
    """Raise a UsageError that lists all settings without an equivalent in the original implementation."""
    foreign = [
        f"model.{name}={value}"
        for name, value, known in (
            ("backbone", config.backbone.split(".")[0], {name.split(".")[0] for name in _RESNETS.values()}),
            ("features", config.features, {"c5", "dc5", "c3_c4_dc5"}),
            ("attention", config.attention, {"rcda", "standard"}),
            ("queries", config.queries, {"anchors"}),
            ("anchors", config.anchors, {"learned", "grid"}),
            ("position_encoder", config.position_encoder, {"sine_mlp"}),
            ("share_position_encoder", config.share_position_encoder, {True}),
            ("num_patterns", config.num_patterns, range(1, 1 << 16)),
            ("box_refinement", config.box_refinement, {False}),
            ("fusion_level", config.fusion_level, {None}),
        )
        if value not in known
    ]
    if foreign:
        raise UsageError(f"The original Anchor DETR cannot represent this model: it has no {', '.join(foreign)}.")


def _translate(key: str, rules: Iterable[tuple[str, str]]) -> str | None:
    for source, target in rules:
        match = re.match(re.escape(source).replace(r"\#", r"(\d+)"), key)
        if match:
            return (target.replace("#", match[1]) if "#" in target else target) + key[match.end() :]
    return None


def _is_copy(key: str, state: Mapping[str, Tensor]) -> bool:
    """Return whether ``key`` is a head of a later decoder layer; raise an InputError if it differs from the first."""
    match = _HEAD_COPY.match(key)
    if match is None or match[2] == "0":
        return False
    first = _HEAD_COPY.sub(rf"transformer.{match[1]}_embed.0.", key)
    if first not in state or not _are_equal(state[key], state[first]):
        raise InputError(f"The decoder layers have different heads ({key}, {first}); Anchor DETR shares one.")
    return True


def _are_equal(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


def _foreign_message(state: Mapping[str, Tensor], unknown: list[str]) -> str:
    name = next((name for part, name in _OTHER_ARCHITECTURES if any(part in key for key in state)), None)
    likely = f"; they look like those of {name}" if name else ""
    examples = ", ".join((unknown or list(state))[:3])
    return f"The {len(state)} parameters are not those of an Anchor DETR{likely} (for example {examples})."


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of modules of a list."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _read_backbone(state: Mapping[str, Tensor]) -> str:
    blocks = tuple(_count(state, f"backbone.body.network.layer{stage}.") for stage in range(1, 5))
    has_bottlenecks = "backbone.body.network.layer1.0.conv3.weight" in state
    if (has_bottlenecks, blocks) not in _RESNETS:
        raise InputError(f"The backbone is not a ResNet of the original: its stages have {blocks} blocks.")
    return _RESNETS[has_bottlenecks, blocks]

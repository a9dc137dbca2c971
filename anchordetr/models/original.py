"""The original implementation's parameter names, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RULES: tuple[tuple[str, str], ...] = (
    (r"^backbone\.0\.body\.", "backbone.body.network."),
    (r"^backbone\.body\.", "backbone.body.network."),
    (r"^input_proj\.(\d+)\.0\.", r"projection.convolutions.\1."),
    (r"^input_proj\.(\d+)\.1\.", r"projection.norms.\1."),
    (r"^transformer\.", ""),
    (r"^encoder_layers\.(\d+)\.self_attn\.", r"encoder.layers.\1.attention.attention."),
    (r"^encoder_layers\.(\d+)\.norm1\.", r"encoder.layers.\1.norm."),
    (r"^encoder_layers\.(\d+)\.ffn\.", r"encoder.layers.\1.feed_forward."),
    (r"^encoder_layers_level\.(\d+)\.self_attn_level\.", r"encoder.level_layers.\1.attention."),
    (r"^encoder_layers_level\.(\d+)\.norm1\.", r"encoder.level_layers.\1.norm."),
    (r"^encoder_layers_level\.(\d+)\.ffn\.", r"encoder.level_layers.\1.feed_forward."),
    (r"^level_embed\.", "encoder.level_embedding."),
    (r"^decoder_layers\.(\d+)\.self_attn\.", r"decoder.layers.\1.self_attention."),
    (r"^decoder_layers\.(\d+)\.norm2\.", r"decoder.layers.\1.self_norm."),
    (r"^decoder_layers\.(\d+)\.cross_attn\.", r"decoder.layers.\1.cross_attention.attention."),
    (r"^decoder_layers\.(\d+)\.norm1\.", r"decoder.layers.\1.cross_norm."),
    (r"^decoder_layers\.(\d+)\.ffn\.", r"decoder.layers.\1.feed_forward."),
    (r"^decoder_layers\.(\d+)\.level_fc\.", r"decoder.layers.\1.cross_attention.fuse."),
    (r"\.feed_forward\.norm2\.", ".feed_forward.norm."),
    (r"^pattern\.weight$", "queries.patterns.weight"),
    (r"^position\.weight$", "queries.anchors.points"),
    (r"^adapt_pos1d\.", "key_encoder.mlp_1d."),
    (r"^adapt_pos2d\.", "key_encoder.mlp_2d."),
    (r"^class_embed\.0\.", "class_head."),
    (r"^bbox_embed\.0\.layers\.0\.", "box_head.layers.0."),
    (r"^bbox_embed\.0\.layers\.1\.", "box_head.layers.2."),
    (r"^bbox_embed\.0\.layers\.2\.", "box_head.layers.4."),
)


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of an original Anchor DETR, of the whole model or of its transformer alone.

    The original stores its one class head and one box head once per decoder layer; the first copy is taken.
    With several levels the cross-attention sits one module deeper.
    """
    several_levels = any("level_fc" in key for key in state)
    renamed = {}
    for key, tensor in state.items():
        if re.search(r"(class|bbox)_embed\.[1-9]", key):
            continue
        name = rename(key)
        if several_levels:
            name = re.sub(r"(cross_attention\.attention\.)", r"\1attention.", name)
        renamed[name] = tensor
    return renamed


def rename(key: str) -> str:
    """Return our name of an original parameter."""
    for pattern, replacement in _RULES:
        key = re.sub(pattern, replacement, key)
    return key

"""Local initialization (``model.init: local``): at first, each query attends mostly to its own position.

With the usual random values the position encodings of neighbouring locations hardly differ: on an 8×8 map a query
gives its own column 0.126 of its attention (uniform: 0.125), and training first has to learn to use positions.
The paper's schedule is long enough for that; a few thousand steps are not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from anchordetr.layers.attention import RotaryMapAttention
from anchordetr.layers.position import SineMLPPositionEncoder
from anchordetr.layers.query_sources import LearnedAnchors, Patterns
from anchordetr.rcda import RowColumnAttention

_FAST_CHANNELS = 8
_POSITION_GAIN = 1.2
_PATTERN_SCALE = 0.1
_ROTARY_BIAS = 1.6  # adds 1.6² to the logit of a query's own column, whatever the number of heads


@torch.no_grad()
def initialize_locally(model: nn.Module) -> None:
    """Initialize a network in place.

    - Anchors lie on a grid, and patterns are nearly equal.
    - The position MLPs read the high-frequency channels of the sine encoding, so that neighbouring positions differ.
    - RCDA's key projections equal its query projections, so that equal positions attend to each other; values pass
      unchanged. With rotary positions queries and keys share a bias, which is rotated equally at equal positions.
    """
    for module in model.modules():
        if isinstance(module, LearnedAnchors):
            module.points.copy_(_grid(len(module.points)))
        elif isinstance(module, Patterns):
            module.weight.mul_(_PATTERN_SCALE)
        elif isinstance(module, SineMLPPositionEncoder):
            _read_fast_channels(module.mlp_1d, [0])
            _read_fast_channels(module.mlp_2d, [0, module.embed_dim // 2])
        elif isinstance(module, RowColumnAttention):
            _tie_queries_and_keys(module)
        elif isinstance(module, RotaryMapAttention):
            depth = module.attention.embed_dim // module.attention.num_heads
            module.attention.in_proj_bias[: 4 * module.attention.embed_dim].fill_(_ROTARY_BIAS / depth**0.25)
        elif isinstance(module, nn.MultiheadAttention):
            _xavier_blocks(module.in_proj_weight, 3)


def _grid(count: int) -> Tensor:
    """Return the first ``count`` points x, y, column by column, of the smallest square grid that has them: (A, 2)."""
    side = math.ceil(math.sqrt(count))
    centre = (torch.arange(side) + 0.5) / side
    return torch.cartesian_prod(centre, centre)[:count]


def _read_fast_channels(mlp: nn.Sequential, fast_channels: list[int]) -> None:
    first, last = mlp[0], mlp[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(first.weight)
    for start in fast_channels:
        nn.init.normal_(first.weight[:, start : start + _FAST_CHANNELS], std=len(fast_channels) ** -0.5)
    nn.init.uniform_(first.bias, -2.0, 2.0)
    nn.init.xavier_uniform_(last.weight, gain=_POSITION_GAIN)
    nn.init.zeros_(last.bias)


def _tie_queries_and_keys(attention: RowColumnAttention) -> None:
    _xavier_blocks(attention.in_proj_weight, 5)
    query_x, query_y, key_x, key_y, value = attention.in_proj_weight.chunk(5)
    key_x.copy_(query_x)
    key_y.copy_(query_y)
    nn.init.eye_(value)
    nn.init.eye_(attention.out_proj.weight)


def _xavier_blocks(weight: Tensor, blocks: int) -> None:
    for block in weight.chunk(blocks):
        nn.init.xavier_uniform_(block)

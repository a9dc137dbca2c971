"""The start at which attention looks at its own place."""

from __future__ import annotations

import torch

from anchordetr.config import ModelConfig
from anchordetr.layers.attention import RotaryMapAttention
from anchordetr.layers.position import MapPositions
from anchordetr.models.builders import build_model
from anchordetr.rcda import RowColumnAttention


def own_cell_attention(config: ModelConfig) -> float:
    """Mean attention of the middle of each of 8 columns to that column, content aside."""
    model = build_model(config)
    attention = next(module for module in model.modules() if isinstance(module, RowColumnAttention))
    centers = (torch.arange(8) + 0.5)[None] / 8
    positions = MapPositions(centers, centers, model.projection.key_encoder)
    nothing = torch.zeros(1, 8, 8, config.embed_dim)
    _, (a_x, _) = attention(
        nothing,
        query_pos_x=positions.x.unsqueeze(1),
        query_pos_y=positions.y.unsqueeze(2),
        memory_pos_x=positions.x,
        memory_pos_y=positions.y,
        need_weights=True,
    )
    return float(a_x.unflatten(2, (8, 8)).diagonal(dim1=3, dim2=4).mean().detach())


def test_attention_starts_at_its_own_place(small_model: ModelConfig) -> None:
    wide = small_model.model_copy(update={"embed_dim": 96, "num_heads": 6})
    paper = own_cell_attention(wide)
    local = own_cell_attention(wide.model_copy(update={"init": "local"}))
    assert paper < 0.15  # uniform: 0.125
    assert local > 0.4


def test_rotary_attention_starts_at_its_own_place(small_model: ModelConfig) -> None:
    wide = small_model.model_copy(update={"embed_dim": 96, "num_heads": 6, "attention": "rcda_rotary", "init": "local"})
    module = next(module for module in build_model(wide).modules() if isinstance(module, RotaryMapAttention))
    centres = (torch.arange(8) + 0.5)[None] / 8
    points = torch.stack((centres, centres), dim=-1)
    rotate = module.rotary.between(points, centres, centres)
    _, weights = module.attention(torch.zeros(1, 8, 96), torch.zeros(1, 8, 8, 96), rotate=rotate, need_weights=True)
    for axis in weights:
        assert (axis.diagonal(dim1=2, dim2=3) > 0.4).all()


def test_anchors_start_on_a_grid(small_model: ModelConfig) -> None:
    model = build_model(small_model.model_copy(update={"init": "local", "num_anchors": 7}))
    points = model.queries.anchors.points
    assert points.shape == (7, 2)
    torch.testing.assert_close(points[4], torch.tensor([0.5, 0.5]))

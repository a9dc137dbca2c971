"""Biases from the boxes of queries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from anchordetr.config import ModelConfig
from anchordetr.errors import UsageError
from anchordetr.layers.attention import RotaryMapAttention, RowColumnMapAttention
from anchordetr.layers.box_bias import BoxBias
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions, PointPositions, SinePositionEncoder
from anchordetr.layers.queries import Queries
from anchordetr.models.builders import build_model

ENCODER = SinePositionEncoder(32)
COLUMNS, ROWS = torch.tensor([[0.1, 0.3, 0.5, 0.7, 0.9]]), torch.tensor([[0.25, 0.75]])
BOXES = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.9, 0.3, 0.1], [0.7, 0.2, 0.0, 0.0]]])


def random_bias(num_heads: int = 4) -> BoxBias:
    bias = BoxBias(num_heads)
    for mlp in (bias.x, bias.y):
        nn.init.normal_(mlp[-1].weight)
        nn.init.normal_(mlp[-1].bias)
    return bias


def test_biases_are_zero_at_first() -> None:
    assert all((part == 0).all() for part in BoxBias(4)(BOXES, COLUMNS, ROWS))


@torch.no_grad()
def test_each_bias_is_the_mlp_of_two_signed_distances() -> None:
    bias = random_bias()
    bias_x, bias_y = bias(BOXES, COLUMNS, ROWS)
    assert (bias_x.shape, bias_y.shape) == ((1, 4, 3, 5), (1, 4, 3, 2))
    for result, mlp, centers, axis in ((bias_x, bias.x, COLUMNS, 0), (bias_y, bias.y, ROWS, 1)):
        for query, box in enumerate(BOXES[0].tolist()):
            for place, center in enumerate(centers[0].tolist()):
                distances = [center - (box[axis] + side * box[axis + 2] / 2) for side in (-1, 1)]
                scaled = [math.copysign(math.log2(1 + 16 * abs(value)) / 4, value) for value in distances]
                torch.testing.assert_close(result[0, :, query, place], mlp(torch.tensor(scaled)))


class OneLocation(BoxBias):
    """Hides all but column 3 and row 1."""

    def forward(self, boxes: Tensor, columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        biases = (torch.full((1, 1, boxes.shape[1], centers.shape[1]), -1e4) for centers in (columns, rows))
        bias_x, bias_y = biases
        bias_x[..., 3] = bias_y[..., 1] = 0.0
        return bias_x, bias_y


@pytest.mark.parametrize("kind", [RowColumnMapAttention, RotaryMapAttention])
@torch.no_grad()
def test_biases_act_on_the_columns_and_rows_of_the_memory(kind: type[nn.Module]) -> None:
    memory = Memory(torch.randn(2, 2, 5, 32), MapPositions(COLUMNS, ROWS, ENCODER), ENCODER)
    points = torch.rand(2, 3, 2)
    queries = Queries(torch.randn(2, 3, 32), PointPositions(points, ENCODER), points, num_anchors=3)
    attention = kind(32, 4, box_bias=OneLocation(4))
    one_location = memory.with_values(memory.values[:, 1:2, 3:4].expand(-1, 2, 5, -1))
    torch.testing.assert_close(attention(queries, memory), attention(queries, one_location))
    without = kind(32, 4)
    without.load_state_dict(attention.state_dict(), strict=False)
    torch.testing.assert_close(attention(memory, memory), without(memory, memory))


@torch.no_grad()
def test_the_decoder_gives_its_attention_the_boxes_of_each_layer(small_model: ModelConfig) -> None:
    changes = {"box_bias": True, "box_refinement": True, "decoder_layers": 2}
    model = build_model(small_model.model_copy(update=changes)).eval()
    nn.init.normal_(model.heads.box_head.layers[-1].weight)
    seen: list[Tensor] = []
    for layer in model.decoder.layers:
        layer.cross_attention.box_bias.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    predictions = model([torch.randn(3, 64, 96)])
    assert seen[0].shape[-1] == 4
    torch.testing.assert_close(seen[1], predictions.boxes[0])


def test_an_attention_without_biases_is_refused(small_model: ModelConfig) -> None:
    with pytest.raises(UsageError, match=r"attention=standard has no box_bias; choose rcda or rcda_rotary"):
        build_model(small_model.model_copy(update={"box_bias": True, "attention": "standard"}))

"""The memory, and queries that move over it."""

from __future__ import annotations

import torch

from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions, SinePositionEncoder
from anchordetr.layers.queries import Queries

ENCODER = SinePositionEncoder(16)
CENTER = torch.full((1, 1), 0.5)


def test_points_are_encoded_in_float32_and_then_cast() -> None:
    memory = Memory(torch.zeros(1, 1, 1, 16, dtype=torch.bfloat16), MapPositions(CENTER, CENTER, ENCODER), ENCODER)
    points = torch.rand(1, 4, 2)
    assert torch.equal(memory.encode(points).joint, ENCODER.encode_2d(points).bfloat16())


def test_queries_that_move_have_other_references_and_positions() -> None:
    memory = Memory(torch.zeros(1, 1, 1, 16), MapPositions(CENTER, CENTER, ENCODER), ENCODER)
    points, boxes = torch.rand(1, 4, 2), torch.rand(1, 4, 4)
    moved = Queries(torch.zeros(1, 4, 16), memory.encode(points), points, num_anchors=4).at(boxes)
    assert torch.equal(moved.references, boxes)
    assert torch.equal(moved.positions.points, boxes[..., :2])

"""Queries from the encoder's proposals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anchordetr.layers.heads import AnchorBoxHead, ClassHead, Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions, SinePositionEncoder
from anchordetr.layers.proposals import EncoderHead, ProposalQueries

ENCODER = SinePositionEncoder(16)
COLUMNS, ROWS = (torch.arange(5)[None] + 0.5) / 5, (torch.arange(3)[None] + 0.5) / 3


def heads() -> Heads:
    box_head = AnchorBoxHead(16)
    nn.init.normal_(box_head.layers[-1].weight)
    class_head = ClassHead(16, 4)
    nn.init.normal_(class_head.weight)
    return Heads(class_head=class_head, box_head=box_head)


@pytest.fixture
def source() -> ProposalQueries:
    head = EncoderHead(projection=nn.Linear(16, 16), norm=nn.LayerNorm(16), heads=heads())
    return ProposalQueries(head=head, num_queries=6)


def memory_of(images: int, levels: int = 1) -> Memory:
    positions = MapPositions(COLUMNS, ROWS, ENCODER)
    return Memory(torch.randn(images * levels, 3, 5, 16, requires_grad=True), positions, ENCODER, levels=levels)


def test_queries_are_the_locations_of_the_highest_scores(source: ProposalQueries) -> None:
    memory = memory_of(2)
    queries = source(memory, heads())
    content, predictions = source.head(memory)
    scores = predictions.logits[-1].amax(dim=-1)
    for image in range(2):
        rows = scores[image].argsort(descending=True)[:6]
        torch.testing.assert_close(queries.content[image], content[image, rows])
        torch.testing.assert_close(queries.references[image], predictions.boxes[-1, image, rows])
    torch.testing.assert_close(queries.positions.points, queries.references[..., :2])
    assert queries.num_anchors == 6


def test_queries_carry_no_gradient_and_proposals_do(source: ProposalQueries) -> None:
    queries = source.train()(memory_of(2), heads())
    for value in (queries.content, queries.references, queries.positions.points):
        assert not value.requires_grad
    (predictions,) = queries.auxiliary.values()
    assert predictions.logits.requires_grad
    assert predictions.boxes.requires_grad
    assert not source.eval()(memory_of(2), heads()).auxiliary


def test_locations_of_an_image_lie_level_after_level(source: ProposalQueries) -> None:
    memory = memory_of(2, levels=2)
    content, predictions = source.head(memory)
    for image in range(2):
        for level in range(2):
            values = memory.values[2 * image + level][None]
            expected, alone = source.head(Memory(values, memory.positions, ENCODER))
            locations = slice(15 * level, 15 * (level + 1))
            torch.testing.assert_close(content[image, locations], expected[0])
            torch.testing.assert_close(predictions.boxes[:, image, locations], alone.boxes[:, 0])


def test_a_small_map_gives_as_many_queries_as_it_has_locations(source: ProposalQueries) -> None:
    source.num_anchors = 50
    assert source(memory_of(1), heads()).num_anchors == 15

"""Queries that stay at their anchors, and queries that move from layer to layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anchordetr.config import Config, ModelConfig
from anchordetr.errors import UsageError
from anchordetr.layers.decoder import RefiningDecoder
from anchordetr.layers.heads import Heads, RefiningBoxHead, boxes_at
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions, SineMLPPositionEncoder
from anchordetr.layers.queries import Queries
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.types import ImageBatch

IMAGES = [torch.randn(3, 64, 96), torch.randn(3, 48, 80)]


def refining(config: ModelConfig, scatter: bool = True, **changes: object) -> AnchorDETR:
    model = build_model(config.model_copy(update={"box_refinement": True, "decoder_layers": 3, **changes})).eval()
    if scatter:
        torch.nn.init.normal_(model.heads.box_head.layers[-1].weight)
    return model


def decode_by_hand(model: AnchorDETR, images: list[Tensor]) -> list[Tensor]:
    """Offsets are added to the boxes before; positions follow the centres."""
    memory = model.encoder(model.projection(model.backbone(ImageBatch.from_list(images))))
    content = model.queries.patterns.weight.repeat_interleave(9, dim=0).expand(len(images), -1, -1)
    points = model.queries.anchors.points.repeat(2, 1).expand(len(images), -1, -1)
    logits = torch.cat((torch.logit(points, eps=1e-5), torch.full_like(points, -2.0)), dim=-1)
    boxes = []
    for layer in model.decoder.layers:
        content = layer(Queries(content, memory.encode(points), points, num_anchors=9), memory).content
        logits = model.heads.box_head.layers(content) + logits
        boxes.append(logits.sigmoid())
        points = boxes[-1][..., :2]
    return boxes


def test_refined_boxes_equal_a_loop_by_hand(small_model: ModelConfig) -> None:
    model = refining(small_model)
    with torch.no_grad():
        predictions = model(IMAGES)
        expected = torch.stack(decode_by_hand(model, IMAGES))
    torch.testing.assert_close(predictions.boxes, expected, atol=1e-4, rtol=0)
    assert (expected[2] - expected[0]).abs().mean() > 0.01
    torch.testing.assert_close(predictions.anchors[0], model.queries.anchors.points.repeat(2, 1))


def test_refinement_starts_at_the_anchors(small_model: ModelConfig) -> None:
    predictions = refining(small_model, scatter=False)(IMAGES)
    start = boxes_at(predictions.anchors)
    torch.testing.assert_close(start[..., 2:], torch.full_like(start[..., 2:], torch.tensor(-2.0).sigmoid().item()))
    for layer in predictions.boxes:
        torch.testing.assert_close(layer, start, atol=1e-5, rtol=0)


class Still(torch.nn.Module):
    """A layer that returns its queries unchanged and keeps their positions."""

    def forward(self, queries: Queries, memory: Memory) -> Queries:
        self.query_pos = queries.positions
        return queries


def test_no_gradient_flows_through_the_boxes_between_layers() -> None:
    points = torch.rand(1, 5, 2, requires_grad=True)
    encoder, head = SineMLPPositionEncoder(8), RefiningBoxHead(8)
    torch.nn.init.normal_(head.layers[-1].weight)
    decoder = RefiningDecoder(layers=[Still(), Still()])
    center = torch.full((1, 1), 0.5)
    memory = Memory(torch.zeros(2, 1, 1, 8), MapPositions(center, center, encoder), encoder)
    queries = Queries(torch.randn(2, 5, 8), memory.encode(points), points, num_anchors=5)
    hidden, references = decoder(queries, memory, Heads(class_head=torch.nn.Identity(), box_head=head))
    first, second = head(hidden, references)
    assert torch.autograd.grad(first.sum(), points, retain_graph=True)[0].abs().min() > 0
    assert not torch.autograd.grad(second.sum(), points, retain_graph=True)[0].any()
    moved = decoder.layers[1].query_pos
    torch.testing.assert_close(moved.points, first[..., :2])
    torch.testing.assert_close(moved.x, encoder.encode_1d(first[..., 0]))
    assert torch.autograd.grad(moved.x.sum(), encoder.mlp_1d[0].weight)[0].any()


def test_boxes_are_offsets_of_all_four_numbers() -> None:
    head = RefiningBoxHead(8)
    boxes = torch.tensor([[0.5, 0.25, 0.4, 0.9], [0.1, 0.8, 0.05, 0.3]])
    torch.testing.assert_close(head(torch.randn(2, 8), boxes), boxes)
    with torch.no_grad():
        head.layers[-1].bias.copy_(torch.tensor([1.0, -1.0, 0.5, 2.0]))
    expected = (torch.logit(boxes) + torch.tensor([1.0, -1.0, 0.5, 2.0])).sigmoid()
    torch.testing.assert_close(head(torch.randn(2, 8), boxes), expected)


def test_queries_without_anchors_cannot_be_refined() -> None:
    with pytest.raises(UsageError, match="box_refinement moves anchors"):
        Config().updated({"model.box_refinement": True, "model.queries": "embeddings"})


@torch.no_grad()
def test_encoded_sizes_reach_the_keys_of_the_self_attention(small_model: ModelConfig) -> None:
    model = refining(small_model, encode_sizes=True)
    seen: list[Tensor] = []
    for layer in model.decoder.layers:
        layer.self_attention.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0] - inputs[2]))
    before = model(IMAGES)
    positions = seen[:3]
    torch.nn.init.normal_(model.decoder.size_encoder.mlp[-1].bias)
    model(IMAGES)
    torch.testing.assert_close(seen[3] - positions[0], model.decoder.size_encoder.mlp[-1].bias.expand_as(seen[3]))
    seen.clear()
    torch.nn.init.normal_(model.decoder.size_encoder.mlp[-1].weight)
    predictions = model(IMAGES)
    assert not torch.allclose(predictions.boxes[-1], before.boxes[-1])
    centers = model.projection.key_encoder.encode_2d(predictions.boxes[0][..., :2])
    torch.testing.assert_close(
        seen[1] - centers, model.decoder.size_encoder(predictions.boxes[0][..., 2:]), atol=1e-4, rtol=1e-4
    )

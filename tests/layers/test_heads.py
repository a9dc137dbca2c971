"""Boxes are offsets from the anchor."""

from __future__ import annotations

import torch

from anchordetr.layers.heads import AnchorBoxHead


def test_boxes_start_at_their_anchors_up_to_the_border() -> None:
    points = torch.tensor([[0.5, 0.5], [0.001, 0.999], [1e-4, 0.25]])
    boxes = AnchorBoxHead(8)(torch.randn(3, 8), points)
    torch.testing.assert_close(boxes[:, :2], points)
    torch.testing.assert_close(boxes[:, 2:], torch.full((3, 2), torch.tensor(-2.0).sigmoid().item()))


def test_points_on_the_border_give_finite_gradients() -> None:
    head = AnchorBoxHead(8)
    points = torch.tensor([[0.0, 1.0]], requires_grad=True)
    head(torch.randn(1, 8), points).sum().backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()

"""Boxes are offsets from the anchor."""

from __future__ import annotations

import torch

from anchordetr.layers.heads import AnchorBoxHead, RelativeBoxHead


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


def test_relative_offsets_are_parts_of_the_size_of_the_reference() -> None:
    head = RelativeBoxHead(8)
    references = torch.tensor([[0.5, 0.5, 0.4, 0.1], [0.2, 0.3, 0.01, 0.02]])
    torch.testing.assert_close(head(torch.randn(2, 8), references), references)
    with torch.no_grad():
        head.layers[-1].bias.copy_(torch.tensor([0.5, -1.0, 2.0, 0.25]).log().nan_to_num(nan=-1.0))
    offset = head.layers[-1].bias.tolist()
    moved = head(torch.randn(2, 8), references)
    torch.testing.assert_close(moved[:, :2], references[:, :2] + torch.tensor(offset[:2]) * references[:, 2:])
    torch.testing.assert_close(moved[:, 2:], references[:, 2:] * torch.tensor([2.0, 0.25]))


def test_relative_offsets_stay_finite_for_boxes_without_size_and_for_large_outputs() -> None:
    head = RelativeBoxHead(8)
    with torch.no_grad():
        head.layers[-1].bias.fill_(1e6)
    references = torch.zeros(1, 4, requires_grad=True)
    boxes = head(torch.randn(1, 8), references)
    boxes.sum().backward()
    assert boxes.isfinite().all()
    assert references.grad is not None
    assert references.grad.isfinite().all()

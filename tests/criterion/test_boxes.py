"""IoU and generalised IoU."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou

from anchordetr.criterion.boxes import generalized_iou


def test_generalized_iou_equals_torchvisions() -> None:
    first, second = torch.rand(6, 4) + 0.01, torch.rand(5, 4) + 0.01
    expected = generalized_box_iou(box_convert(first, "cxcywh", "xyxy"), box_convert(second, "cxcywh", "xyxy"))
    torch.testing.assert_close(generalized_iou(first[:, None], second), expected)


@pytest.mark.parametrize("box", [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, -0.1, 0.2], [float("nan"), 0.5, 0.1, 0.1]])
def test_generalized_iou_never_raises(box: list[float]) -> None:
    value = generalized_iou(torch.tensor(box), torch.tensor([0.5, 0.5, 0.0, 0.0]))
    assert value.isnan() == torch.tensor(box).isnan().any()

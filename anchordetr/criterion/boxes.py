"""IoU and generalised IoU of boxes (cx, cy, w, h), with broadcasting."""

from __future__ import annotations

import torch
from torch import Tensor


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalised IoU (Rezatofighi et al., CVPR 2019).

    Args:
        boxes, others: (..., 4) cx, cy, w, h of broadcastable shapes; negative sizes count as zero, NaN gives NaN.

    Returns:
        (...) in [-1, 1].
    """
    intersection, union, hull = _areas(boxes, others)
    tiny = torch.finfo(union.dtype).tiny
    return intersection / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union in [0, 1]; arguments as for :func:`generalized_iou`."""
    intersection, union, _ = _areas(boxes, others)
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def _areas(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the areas of intersection, union and smallest enclosing box."""
    low, high, area = _corners_and_area(boxes)
    other_low, other_high, other_area = _corners_and_area(others)
    intersection = (torch.min(high, other_high) - torch.max(low, other_low)).clamp(min=0).prod(-1)
    hull = (torch.max(high, other_high) - torch.min(low, other_low)).prod(-1)
    return intersection, area + other_area - intersection, hull


def _corners_and_area(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    centre, size = boxes[..., :2], boxes[..., 2:].clamp(min=0)
    return centre - size / 2, centre + size / 2, size.prod(-1)

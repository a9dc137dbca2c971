"""Generalised IoU with broadcasting: pairwise for the matching, element by element for the loss."""

from __future__ import annotations

import torch
from torch import Tensor


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalised IoU (Rezatofighi et al., CVPR 2019) of boxes cx, cy, w, h.

    Args:
        boxes, others: (..., 4), shapes that broadcast; negative sizes count as zero, NaN gives NaN.

    Returns:
        (...) in [-1, 1].
    """
    low, high, area = _corners_and_area(boxes)
    other_low, other_high, other_area = _corners_and_area(others)
    intersection = (torch.min(high, other_high) - torch.max(low, other_low)).clamp(min=0).prod(-1)
    union = area + other_area - intersection
    hull = (torch.max(high, other_high) - torch.min(low, other_low)).prod(-1)
    tiny = torch.finfo(union.dtype).tiny
    return intersection / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def _corners_and_area(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    centre, size = boxes[..., :2], boxes[..., 2:].clamp(min=0)
    return centre - size / 2, centre + size / 2, size.prod(-1)

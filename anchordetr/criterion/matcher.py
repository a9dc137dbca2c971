"""Hungarian matching of queries and objects, for all decoder layers in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from anchordetr.criterion.boxes import generalized_iou
from anchordetr.types import Predictions, Target


class Matches(NamedTuple):
    """Matched pairs of all layers and pictures, one row per pair.

    Attributes:
        layer, image, query: (P,) indices into the predictions.
        target: (P,) index of the object within its picture.
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor


class HungarianMatcher(nn.Module):
    """One-to-one assignment of the least cost: focal class cost, L1 of cx cy w h, and minus the generalised IoU.

    Args:
        class_weight, box_weight, giou_weight: weights of the three costs.
        focal_alpha, focal_gamma: of the focal class cost.
    """

    def __init__(
        self,
        class_weight: float = 2.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.class_weight = class_weight
        self.box_weight = box_weight
        self.giou_weight = giou_weight
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    @torch.no_grad()
    def forward(self, predictions: Predictions, targets: Sequence[Target]) -> Matches:
        """Match every layer of every picture; with more objects than queries, the cheapest ones are matched."""
        counts = [len(target.labels) for target in targets]
        costs = [
            self.cost(predictions.logits[:, i], predictions.boxes[:, i], target) for i, target in enumerate(targets)
        ]
        flat = torch.cat([cost.flatten() for cost in costs]).cpu()
        blocks = flat.split([cost.numel() for cost in costs])
        num_layers, _, num_queries, _ = predictions.logits.shape
        rows: list[Tensor] = []
        for image, (block, count) in enumerate(zip(blocks, counts, strict=True)):
            for layer, cost in enumerate(block.view(num_layers, num_queries, count)):
                query, target = (torch.from_numpy(indices) for indices in linear_sum_assignment(_finite(cost)))
                rows.append(torch.stack((torch.full_like(query, layer), torch.full_like(query, image), query, target)))
        return Matches(*torch.cat(rows, dim=1).to(predictions.logits.device, non_blocking=True))

    def cost(self, logits: Tensor, boxes: Tensor, target: Target) -> Tensor:
        """Return the matching cost of one picture: logits (L, Q, K), boxes (L, Q, 4) -> (L, Q, T)."""
        p = logits[..., target.labels].float().sigmoid()
        positive = self.focal_alpha * (1 - p) ** self.focal_gamma * -(p + 1e-8).log()
        negative = (1 - self.focal_alpha) * p**self.focal_gamma * -(1 - p + 1e-8).log()
        distance = torch.cdist(boxes.float(), target.boxes.expand(len(boxes), -1, -1), p=1)
        overlap = generalized_iou(boxes.float()[..., None, :], target.boxes)
        return self.class_weight * (positive - negative) + self.box_weight * distance - self.giou_weight * overlap


def _finite(cost: Tensor) -> Tensor:
    """Replace what is not finite by a cost that is never chosen freely; the trainer stops on non-finite losses."""
    return cost.nan_to_num(nan=1e9, posinf=1e9, neginf=-1e9)

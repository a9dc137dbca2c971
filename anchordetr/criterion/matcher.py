"""Hungarian matching of queries and objects, for all decoder layers in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from anchordetr.criterion.boxes import generalized_iou
from anchordetr.types import Predictions, Target


class Matches(NamedTuple):
    """Matched pairs of all layers and images, one row per pair.

    Attributes:
        layer, image, query: (P,) indices into the predictions.
        target: (P,) index of the object within its image.
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor


def known_matches(objects: Tensor, layers: int) -> Matches:
    """Return the pairs of queries that know their objects, the same ones in every layer.

    Args:
        objects: (B, Q) index of each query's object within its image, -1 for none.
        layers: L.
    """
    image, query = (objects >= 0).nonzero(as_tuple=True)
    layer = torch.arange(layers, device=objects.device).repeat_interleave(len(image))
    return Matches(layer, image.repeat(layers), query.repeat(layers), objects[image, query].repeat(layers))


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
        """Match every layer of every image; with more objects than queries, the cheapest ones are matched.

        The costs of all layers cross to the CPU once.
        """
        counts = [len(target.labels) for target in targets]
        if not any(counts):
            empty = torch.zeros(0, dtype=torch.int64, device=predictions.logits.device)
            return Matches(empty, empty, empty, empty)
        labels = pad_sequence([target.labels for target in targets], batch_first=True)
        boxes = pad_sequence([target.boxes for target in targets], batch_first=True)
        costs = self.cost(predictions.logits, predictions.boxes, labels, boxes)
        finite = costs.nan_to_num(nan=_NEVER, posinf=_NEVER, neginf=-_NEVER).cpu().numpy()
        rows = [
            _assign(block[:, :count], layer, image)
            for layer, blocks in enumerate(finite)
            for image, (block, count) in enumerate(zip(blocks, counts, strict=True))
        ]
        matched = torch.from_numpy(np.concatenate(rows, axis=1))
        return Matches(*matched.to(predictions.logits.device, non_blocking=True))

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
        """Return the matching costs of all layers, each image with its own objects only.

        Args:
            logits: (L, B, Q, K). boxes: (L, B, Q, 4).
            labels: (B, T), wanted: (B, T, 4): the objects, padded to the largest number in an image.

        Returns:
            (L, B, Q, T).
        """
        index = labels[None, :, None].expand(*logits.shape[:3], -1)
        p = logits.float().gather(-1, index).sigmoid()
        positive = self.focal_alpha * (1 - p) ** self.focal_gamma * -(p + 1e-8).log()
        negative = (1 - self.focal_alpha) * p**self.focal_gamma * -(1 - p + 1e-8).log()
        distance = torch.cdist(boxes.float(), wanted.expand(len(boxes), -1, -1, -1), p=1)
        overlap = generalized_iou(boxes.float()[..., None, :], wanted[:, None])
        return self.class_weight * (positive - negative) + self.box_weight * distance - self.giou_weight * overlap


def _assign(cost: NDArray[np.float32], layer: int, image: int) -> NDArray[np.int64]:
    """Return rows layer, image, query, target of the cheapest assignment of cost (Q, T)."""
    query, target = linear_sum_assignment(cost)
    return np.stack([np.full_like(query, layer), np.full_like(query, image), query, target])


# stands for what is not finite: never chosen freely; the trainer stops on non-finite losses
_NEVER = 1e9

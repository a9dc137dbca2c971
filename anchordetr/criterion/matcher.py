"""Hungarian matching of queries with targets, for all decoder layers in one pass."""

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
    """P matched pairs of queries and targets, over all layers and images.

    Attributes:
        layer, image, query: (P,) indices into the predictions.
        target: (P,) index of the target object within its image.
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor


def known_matches(target_indices: Tensor, layers: int) -> Matches:
    """Return the pairs of queries with known targets, the same in every layer.

    Args:
        target_indices: (B, Q) index of each query's target within its image, -1 for none.
        layers: number of decoder layers L.
    """
    image, query = (target_indices >= 0).nonzero(as_tuple=True)
    layer = torch.arange(layers, device=target_indices.device).repeat_interleave(len(image))
    return Matches(layer, image.repeat(layers), query.repeat(layers), target_indices[image, query].repeat(layers))


class HungarianMatcher(nn.Module):
    """One-to-one assignment with minimal cost: focal class cost, L1 distance of cx, cy, w, h, and negative GIoU.

    DETR's matching (Carion et al., ECCV 2020, section 3.1) with the class cost of Deformable DETR.

    Args:
        class_weight, box_weight, giou_weight: weights of the three costs.
        focal_alpha, focal_gamma: parameters of the focal class cost.
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
        """Return the matches of every layer and image; every query is matched if there are more objects than queries.

        The costs of all layers are copied to the CPU once.
        """
        counts = [len(target.labels) for target in targets]
        if not any(counts):
            empty = torch.zeros(0, dtype=torch.int64, device=predictions.logits.device)
            return Matches(empty, empty, empty, empty)
        labels = pad_sequence([target.labels for target in targets], batch_first=True)
        boxes = pad_sequence([target.boxes for target in targets], batch_first=True)
        costs = self.cost(predictions.logits, predictions.boxes, labels, boxes)
        finite = costs.nan_to_num(nan=_INFEASIBLE, posinf=_INFEASIBLE, neginf=-_INFEASIBLE).cpu().numpy()
        rows = [
            _assign(block[:, :count], layer, image)
            for layer, blocks in enumerate(finite)
            for image, (block, count) in enumerate(zip(blocks, counts, strict=True))
        ]
        matched = torch.from_numpy(np.concatenate(rows, axis=1))
        return Matches(*matched.to(predictions.logits.device, non_blocking=True))

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, target_boxes: Tensor) -> Tensor:
        """Return the matching costs of all layers, of each image's queries with its own objects.

        Args:
            logits: (L, B, Q, K). boxes: (L, B, Q, 4).
            labels: (B, T), target_boxes: (B, T, 4): target objects, padded to the largest number in an image.

        Returns:
            (L, B, Q, T).
        """
        index = labels[None, :, None].expand(*logits.shape[:3], -1)
        p = logits.float().gather(-1, index).sigmoid()
        positive = self.focal_alpha * (1 - p) ** self.focal_gamma * -(p + 1e-8).log()
        negative = (1 - self.focal_alpha) * p**self.focal_gamma * -(1 - p + 1e-8).log()
        distance = torch.cdist(boxes.float(), target_boxes.expand(len(boxes), -1, -1, -1), p=1)
        overlap = generalized_iou(boxes.float()[..., None, :], target_boxes[:, None])
        return self.class_weight * (positive - negative) + self.box_weight * distance - self.giou_weight * overlap


def _assign(cost: NDArray[np.float32], layer: int, image: int) -> NDArray[np.int64]:
    """Return layer, image, query and target, (4, P), of the minimal assignment of cost (Q, T)."""
    query, target = linear_sum_assignment(cost)
    return np.stack([np.full_like(query, layer), np.full_like(query, image), query, target])


# in place of non-finite costs, to avoid such pairs; the trainer stops on non-finite losses
_INFEASIBLE = 1e9

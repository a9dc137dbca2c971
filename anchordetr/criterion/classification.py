"""Classification losses of the criterion: focal loss and varifocal loss."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from anchordetr.criterion.boxes import iou


class ClassLoss(Protocol):
    """The interface of a classification loss: target scores for matched queries, and the loss of all logits."""

    def target_scores(self, boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return the target scores (P,) of P matched queries.

        Args:
            boxes, target_boxes: (P, 4) predicted and target boxes, cx, cy, w, h.
        """

    def __call__(self, logits: Tensor, target_scores: Tensor) -> Tensor:
        """Return the loss per logit.

        Args:
            logits: (...), before the sigmoid. target_scores: (...) in [0, 1], 0 for the background.
        """


class FocalLoss(nn.Module):
    """Focal loss (Lin et al., ICCV 2017); the target score of a matched query is 1.

    Args:
        alpha, gamma: balance and focusing parameters.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def target_scores(self, boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return ones (P,); arguments as for :class:`ClassLoss`."""
        return boxes.new_ones(len(boxes))

    def forward(self, logits: Tensor, target_scores: Tensor) -> Tensor:
        """Return the loss per logit; arguments as for :class:`ClassLoss`."""
        loss: Tensor = sigmoid_focal_loss(logits, target_scores, alpha=self.alpha, gamma=self.gamma, reduction="none")
        return loss


class VarifocalLoss(nn.Module):
    """Varifocal loss (Zhang et al., CVPR 2021, arXiv 2008.13367, eq. 2); the target score is the IoU with the target.

    With score p and target score q: ``-q (q log p + (1 - q) log(1 - p))`` if q > 0, else ``-alpha p^gamma log(1 - p)``.

    Args:
        alpha, gamma: weight and focusing parameter of the negatives.
    """

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    @torch.no_grad()
    def target_scores(self, boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return the IoUs (P,), without gradient; arguments as for :class:`ClassLoss`."""
        return iou(boxes, target_boxes)

    def forward(self, logits: Tensor, target_scores: Tensor) -> Tensor:
        """Return the loss per logit; arguments as for :class:`ClassLoss`."""
        weight = torch.where(target_scores > 0, target_scores, self.alpha * logits.sigmoid() ** self.gamma)
        return weight * F.binary_cross_entropy_with_logits(logits, target_scores, reduction="none")

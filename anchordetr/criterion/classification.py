"""Class losses: what score a matched query shall have, and the loss of the scores that queries do have."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from anchordetr.criterion.boxes import iou


class ClassLoss(Protocol):
    """What the criterion asks of a class loss."""

    def scores(self, boxes: Tensor, wanted: Tensor) -> Tensor:
        """Return the scores that P matched queries shall have: boxes and their objects' (P, 4) -> (P,)."""

    def __call__(self, logits: Tensor, scores: Tensor) -> Tensor:
        """Return the loss of each logit (...) for the score that it shall have (...), 0 for no object."""


class FocalLoss(nn.Module):
    """Focal loss (Lin et al., ICCV 2017): the score of a matched query shall be 1.

    Args:
        alpha, gamma: of the loss.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def scores(self, boxes: Tensor, wanted: Tensor) -> Tensor:
        """Return ones: boxes and their objects' (P, 4) -> (P,)."""
        return boxes.new_ones(len(boxes))

    def forward(self, logits: Tensor, scores: Tensor) -> Tensor:
        """Arguments as of :class:`ClassLoss`."""
        loss: Tensor = sigmoid_focal_loss(logits, scores, alpha=self.alpha, gamma=self.gamma, reduction="none")
        return loss


class VarifocalLoss(nn.Module):
    """Varifocal loss (Zhang et al., CVPR 2021, arXiv 2008.13367, eq. 2): the score shall be the IoU with the object.

    With probability p and wanted score q: ``-q (q log p + (1 - q) log(1 - p))`` if q > 0, else
    ``-alpha p^gamma log(1 - p)``.

    Args:
        alpha, gamma: of the loss where there is no object.
    """

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    @torch.no_grad()
    def scores(self, boxes: Tensor, wanted: Tensor) -> Tensor:
        """Return the IoUs: boxes and their objects' (P, 4) -> (P,)."""
        return iou(boxes, wanted)

    def forward(self, logits: Tensor, scores: Tensor) -> Tensor:
        """Arguments as of :class:`ClassLoss`."""
        weight = torch.where(scores > 0, scores, self.alpha * logits.sigmoid() ** self.gamma)
        return weight * F.binary_cross_entropy_with_logits(logits, scores, reduction="none")

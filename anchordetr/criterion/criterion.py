"""The set-prediction loss: focal, L1 and generalised IoU losses on every decoder layer (section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from anchordetr.config import LossConfig
from anchordetr.criterion.boxes import generalized_iou
from anchordetr.criterion.matcher import HungarianMatcher, Matches
from anchordetr.types import Predictions, Target


class Losses(NamedTuple):
    """What the criterion returns.

    Attributes:
        total: scalar, the weighted sum over terms and layers, and over the cells where they predict.
        terms: unweighted values without gradient: ``class``, ``box`` and ``giou`` of the last layer, ``class_0``, ...
            of the layers before it, ``class_cells``, ... of the cells.
        matches: which query was matched with which object.
    """

    total: Tensor
    terms: dict[str, Tensor]
    matches: Matches


class SetCriterion(nn.Module):
    """Matches predictions with objects and adds up the losses of all layers, each layer alike.

    Args:
        matcher: module from predictions and targets to :class:`Matches`.
        num_classes: K of the predictions.
        class_weight, box_weight, giou_weight: weights of the three losses.
        focal_alpha, focal_gamma: of the focal loss (Lin et al., ICCV 2017).
    """

    def __init__(
        self,
        *,
        matcher: nn.Module,
        num_classes: int,
        class_weight: float = 2.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.matcher = matcher
        self.num_classes = num_classes
        self.weights = {"class": class_weight, "box": box_weight, "giou": giou_weight}
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    def forward(
        self, predictions: Predictions, targets: Sequence[Target], num_boxes: float | Tensor | None = None
    ) -> Losses:
        """Compute the losses in float32.

        Args:
            predictions: of a batch of B pictures.
            targets: B targets on the same device.
            num_boxes: what the sums are divided by; the number of objects in the batch, at least 1, if not given.

        Raises:
            ValueError: the numbers of pictures or classes differ, or a target has odd shapes.
        """
        self._check(predictions, targets)
        num_layers = len(predictions.logits)
        if num_boxes is None:
            num_boxes = max(sum(len(target.labels) for target in targets), 1)
        matches = self.matcher(predictions, targets)
        by_term = {"class": self._class_loss(predictions, targets, matches)}
        by_term["box"], by_term["giou"] = self._box_losses(predictions, targets, matches)
        by_term = {name: losses / num_boxes for name, losses in by_term.items()}
        total = torch.stack([self.weights[name] * losses.sum() for name, losses in by_term.items()]).sum()
        terms = {}
        for name, losses in by_term.items():
            values = losses.detach().unbind()
            terms[name] = values[-1]
            terms.update({f"{name}_{layer}": values[layer] for layer in range(num_layers - 1)})
        if predictions.cells is not None:
            cells = self(predictions.cells, targets, num_boxes)
            total = total + cells.total
            terms.update({f"{name}_cells": value for name, value in cells.terms.items()})
        return Losses(total, terms, matches)

    def _check(self, predictions: Predictions, targets: Sequence[Target]) -> None:
        _, batch, _, num_classes = predictions.logits.shape
        if num_classes != self.num_classes:
            raise ValueError(
                f"The predictions have {num_classes} classes; the criterion was built for {self.num_classes}."
            )
        if len(targets) != batch:
            raise ValueError(f"The predictions are of {batch} images but there are {len(targets)} targets.")
        for index, target in enumerate(targets):
            if target.boxes.shape != (len(target.labels), 4):
                raise ValueError(
                    f"Target {index} has boxes {tuple(target.boxes.shape)} and labels {tuple(target.labels.shape)}; "
                    "expected (T, 4) and (T,)."
                )

    def _class_loss(self, predictions: Predictions, targets: Sequence[Target], matches: Matches) -> Tensor:
        """Focal loss summed over queries and classes: (L,)."""
        logits = predictions.logits.float()
        wanted = torch.zeros_like(logits)
        labels = _gather([target.labels for target in targets], matches)
        wanted[matches.layer, matches.image, matches.query, labels] = 1.0
        loss = sigmoid_focal_loss(logits, wanted, alpha=self.focal_alpha, gamma=self.focal_gamma, reduction="none")
        return loss.sum(dim=(1, 2, 3))

    def _box_losses(
        self, predictions: Predictions, targets: Sequence[Target], matches: Matches
    ) -> tuple[Tensor, Tensor]:
        """L1 and generalised IoU losses summed over the matched pairs: (L,) each."""
        boxes = predictions.boxes[matches.layer, matches.image, matches.query].float()
        wanted = _gather([target.boxes for target in targets], matches)
        per_pair = torch.stack(((boxes - wanted).abs().sum(-1), 1 - generalized_iou(boxes, wanted)))
        sums = per_pair.new_zeros(2, len(predictions.logits)).index_add(1, matches.layer, per_pair)
        return sums[0], sums[1]


def _gather(per_image: Sequence[Tensor], matches: Matches) -> Tensor:
    """Return one row per matched pair from tensors that hold one row per object."""
    starts = torch.tensor([0, *(len(rows) for rows in per_image)][:-1]).cumsum(0).to(matches.image.device)
    return torch.cat(list(per_image))[starts[matches.image] + matches.target]


def build_criterion(num_classes: int, config: LossConfig | None = None) -> SetCriterion:
    """Build the criterion of the paper, or of a configuration.

    Args:
        num_classes: K of the predictions.
        config: weights; the paper's if not given.
    """
    config = config or LossConfig()
    weights = config.model_dump()
    return SetCriterion(matcher=HungarianMatcher(**weights), num_classes=num_classes, **weights)

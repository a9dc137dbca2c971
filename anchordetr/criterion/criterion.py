"""The set-prediction loss: class, L1 and generalised IoU losses on every decoder layer (section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anchordetr.config import LossConfig
from anchordetr.criterion.boxes import generalized_iou
from anchordetr.criterion.classification import ClassLoss, FocalLoss, VarifocalLoss
from anchordetr.criterion.matcher import HungarianMatcher, Matches, known_matches
from anchordetr.types import Predictions, Target


class Losses(NamedTuple):
    """What the criterion returns.

    Attributes:
        total: scalar, the weighted sum over terms and layers, auxiliary predictions included.
        terms: unweighted values without gradient: ``class``, ``box`` and ``giou`` of the last layer, ``class_0``, ...
            of the layers before it, ``class_encoder``, ... of auxiliary predictions by their names.
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
        class_loss: see ``criterion/classification.py``; the focal loss if not given.
        class_weight, box_weight, giou_weight: weights of the three losses.
    """

    def __init__(
        self,
        *,
        matcher: nn.Module,
        num_classes: int,
        class_loss: ClassLoss | None = None,
        class_weight: float = 2.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
    ) -> None:
        super().__init__()
        self.matcher = matcher
        self.num_classes = num_classes
        self.class_loss = class_loss or FocalLoss()
        self.weights = {"class": class_weight, "box": box_weight, "giou": giou_weight}

    def forward(
        self, predictions: Predictions, targets: Sequence[Target], num_boxes: float | Tensor | None = None
    ) -> Losses:
        """Compute the losses in float32.

        Args:
            predictions: of a batch of B images.
            targets: B targets on the same device.
            num_boxes: what the sums are divided by; the number of objects in the batch, at least 1, if not given.

        Raises:
            ValueError: the numbers of images or classes differ, or a target has odd shapes.
        """
        self._check(predictions, targets)
        num_layers = len(predictions.logits)
        if num_boxes is None:
            num_boxes = max(sum(len(target.labels) for target in targets), 1)
        matches, copies = self._match(predictions, targets)
        boxes = predictions.boxes[matches.layer, matches.image, matches.query].float()
        wanted = _gather([target.boxes for target in targets], matches)
        labels = _gather([target.labels for target in targets], matches)
        by_term = {"class": self._class_losses(predictions, matches, labels, self.class_loss.scores(boxes, wanted))}
        by_term["box"], by_term["giou"] = self._box_losses(boxes, wanted, matches.layer, num_layers)
        by_term = {name: losses / (num_boxes * copies) for name, losses in by_term.items()}
        total = torch.stack([self.weights[name] * losses.sum() for name, losses in by_term.items()]).sum()
        terms = {}
        for name, losses in by_term.items():
            values = losses.detach().unbind()
            terms[name] = values[-1]
            terms.update({f"{name}_{layer}": values[layer] for layer in range(num_layers - 1)})
        for part, auxiliary in predictions.auxiliary.items():
            losses_of_part = self(auxiliary, targets, num_boxes)
            total = total + losses_of_part.total
            terms.update({f"{name}_{part}": value for name, value in losses_of_part.terms.items()})
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

    def _match(self, predictions: Predictions, targets: Sequence[Target]) -> tuple[Matches, int]:
        """Return the matches, and how often each object occurs among them."""
        if predictions.target_indices is None:
            return self.matcher(predictions, targets), 1
        return known_matches(
            predictions.target_indices.flatten(1), len(predictions.logits)
        ), predictions.target_indices.shape[1]

    def _class_losses(self, predictions: Predictions, matches: Matches, labels: Tensor, scores: Tensor) -> Tensor:
        """Class loss summed over queries and classes: (L,)."""
        logits = predictions.logits.float()
        wanted = torch.zeros_like(logits)
        wanted[matches.layer, matches.image, matches.query, labels] = scores
        return self.class_loss(logits, wanted).sum(dim=(1, 2, 3))

    def _box_losses(self, boxes: Tensor, wanted: Tensor, layer: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
        """L1 and generalised IoU losses summed over the matched pairs (P, 4) of each layer: (L,) each."""
        per_pair = torch.stack(((boxes - wanted).abs().sum(-1), 1 - generalized_iou(boxes, wanted)))
        sums = per_pair.new_zeros(2, num_layers).index_add(1, layer, per_pair)
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
    weights = config.model_dump(include={"class_weight", "box_weight", "giou_weight"})
    focal = FocalLoss(config.focal_alpha, config.focal_gamma)
    return SetCriterion(
        matcher=HungarianMatcher(**weights, focal_alpha=focal.alpha, focal_gamma=focal.gamma),
        num_classes=num_classes,
        class_loss=VarifocalLoss() if config.classification == "varifocal" else focal,
        **weights,
    )

"""The set-prediction loss: class, L1 and generalised IoU losses of every decoder layer (section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anchordetr.config import LossConfig
from anchordetr.criterion.boxes import generalized_iou
from anchordetr.criterion.classification import ClassLoss, FocalLoss, VarifocalLoss
from anchordetr.criterion.matcher import HungarianMatcher, Matches, known_matches
from anchordetr.metrics import LOSS_TERMS
from anchordetr.types import Predictions, Target


class Losses(NamedTuple):
    """The losses of a batch.

    Attributes:
        total: scalar, the weighted sum over terms and layers, including auxiliary predictions.
        terms: unweighted values without gradient: ``class``, ``box`` and ``giou`` of the last layer, ``class_0``, ...
            of the layers before it, ``class_encoder``, ... of the auxiliary predictions of that name.
        matches: the matched pairs of queries and targets.
    """

    total: Tensor
    terms: dict[str, Tensor]
    matches: Matches


class SetCriterion(nn.Module):
    """Set-prediction loss: matches predictions with targets and sums the losses of all layers with equal weights.

    Args:
        matcher: module (predictions, targets) -> :class:`Matches`, such as :class:`HungarianMatcher`.
        num_classes: K of the predictions.
        class_loss: a :class:`~anchordetr.criterion.classification.ClassLoss`; the focal loss by default.
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
        self.weights = dict(zip(LOSS_TERMS, (class_weight, box_weight, giou_weight), strict=True))

    def forward(
        self, predictions: Predictions, targets: Sequence[Target], num_boxes: float | Tensor | None = None
    ) -> Losses:
        """Return the losses, computed in float32.

        Args:
            predictions: of a batch of B images.
            targets: B targets on the same device.
            num_boxes: normaliser of the sums; by default the number of objects in the batch, at least 1.

        Raises:
            ValueError: the numbers of images or classes differ, or a target has inconsistent shapes.
        """
        self._check(predictions, targets)
        num_layers = len(predictions.logits)
        if num_boxes is None:
            num_boxes = max(sum(len(target.labels) for target in targets), 1)
        matches, copies = self._match(predictions, targets)
        boxes = predictions.boxes[matches.layer, matches.image, matches.query].float()
        target_boxes = _gather([target.boxes for target in targets], matches)
        labels = _gather([target.labels for target in targets], matches)
        scores = self.class_loss.target_scores(boxes, target_boxes)
        class_losses = self._class_losses(predictions, matches, labels, scores)
        sums = (class_losses, *self._box_losses(boxes, target_boxes, matches.layer, num_layers))
        by_term = {name: losses / (num_boxes * copies) for name, losses in zip(LOSS_TERMS, sums, strict=True)}
        total = torch.stack([self.weights[name] * losses.sum() for name, losses in by_term.items()]).sum()
        terms = {}
        for name, losses in by_term.items():
            values = losses.detach().unbind()
            terms[name] = values[-1]
            terms.update({f"{name}_{layer}": values[layer] for layer in range(num_layers - 1)})
        for source, auxiliary in predictions.auxiliary.items():
            auxiliary_losses = self(auxiliary, targets, num_boxes)
            total = total + auxiliary_losses.total
            terms.update({f"{name}_{source}": value for name, value in auxiliary_losses.terms.items()})
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
        """Return the matches, and the number of copies of each object among them."""
        indices = predictions.target_indices
        if indices is None:
            return self.matcher(predictions, targets), 1
        return known_matches(indices.flatten(1), len(predictions.logits)), indices.shape[1]

    def _class_losses(self, predictions: Predictions, matches: Matches, labels: Tensor, scores: Tensor) -> Tensor:
        """Return the class loss summed over queries and classes, (L,)."""
        logits = predictions.logits.float()
        target_scores = torch.zeros_like(logits)
        target_scores[matches.layer, matches.image, matches.query, labels] = scores
        return self.class_loss(logits, target_scores).sum(dim=(1, 2, 3))

    def _box_losses(self, boxes: Tensor, target_boxes: Tensor, layer: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
        """Return the L1 and generalised IoU losses summed over the matched pairs of each layer, (L,) each."""
        per_pair = torch.stack(((boxes - target_boxes).abs().sum(-1), 1 - generalized_iou(boxes, target_boxes)))
        sums = per_pair.new_zeros(2, num_layers).index_add(1, layer, per_pair)
        return sums[0], sums[1]


def _gather(per_image: Sequence[Tensor], matches: Matches) -> Tensor:
    """Return the rows of the matched objects, (P, ...), from one tensor (T, ...) per image."""
    starts = torch.tensor([0, *(len(rows) for rows in per_image)][:-1]).cumsum(0).to(matches.image.device)
    return torch.cat(list(per_image))[starts[matches.image] + matches.target]


def build_criterion(num_classes: int, config: LossConfig | None = None) -> SetCriterion:
    """Return the criterion of a configuration.

    Args:
        num_classes: K of the predictions.
        config: loss weights and the class loss; those of the paper by default.
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

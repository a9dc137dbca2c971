"""Losses, matching and training step of Anchor DETR in the original implementation's order of operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from original_order import AnchorDETR, Outputs
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

Target = dict[str, Tensor]


class Criterion(nn.Module):
    """The losses of each layer, computed one layer at a time, each with its own matching."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, outputs: Outputs, targets: Sequence[Target]) -> Tensor:
        """Outputs of all layers, targets with ``boxes`` (T, 4) cx cy w h and ``labels`` (T,) -> the weighted sum."""
        count = max(sum(len(target["labels"]) for target in targets), 1)
        layers = zip(outputs["logits"], outputs["boxes"], strict=True)
        return torch.stack([self._layer(logits, boxes, targets) for logits, boxes in layers]).sum() / count

    def _layer(self, logits: Tensor, boxes: Tensor, targets: Sequence[Target]) -> Tensor:
        matches = match(logits, boxes, targets)
        image = torch.cat([torch.full_like(query, index) for index, (query, _) in enumerate(matches)])
        query = torch.cat([query for query, _ in matches])
        target_boxes, labels = (
            torch.cat([target[key][rows] for target, (_, rows) in zip(targets, matches, strict=True)])
            for key in ("boxes", "labels")
        )
        one_hot = torch.zeros_like(logits)
        one_hot[image, query, labels] = 1
        focal = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2, reduction="sum")
        predicted = boxes[image, query]
        giou = generalized_box_iou_loss(_corners(predicted), _corners(target_boxes), reduction="sum")
        return 2 * focal + 5 * F.l1_loss(predicted, target_boxes, reduction="sum") + 2 * giou


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: Sequence[Target]) -> list[tuple[Tensor, Tensor]]:
    """Match one layer: query and object indices of each image, from costs against the objects of all images."""
    p = logits.flatten(0, 1).sigmoid()
    predicted = boxes.flatten(0, 1)
    labels = torch.cat([target["labels"] for target in targets])
    target_boxes = torch.cat([target["boxes"] for target in targets])
    negative = 0.75 * p**2 * -(1 - p + 1e-8).log()
    positive = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log()
    cost = 2 * (positive[:, labels] - negative[:, labels]) + 5 * torch.cdist(predicted, target_boxes, p=1)
    cost = (
        (cost - 2 * generalized_box_iou(_corners(predicted), _corners(target_boxes))).view(*logits.shape[:2], -1).cpu()
    )
    blocks = cost.split([len(target["labels"]) for target in targets], dim=-1)
    pairs = [linear_sum_assignment(block[index]) for index, block in enumerate(blocks)]
    return [(torch.as_tensor(query), torch.as_tensor(rows)) for query, rows in pairs]


def _corners(boxes: Tensor) -> Tensor:
    return box_convert(boxes, "cxcywh", "xyxy")


def training_step(
    model: AnchorDETR, criterion: Criterion, optimizer: torch.optim.Optimizer, clip_norm: float = 0.1
) -> Callable[[Tensor, Tensor, Sequence[Target]], float]:
    """Return a function that does one step on pixels, padding and targets, and returns the loss."""

    def step(pixels: Tensor, padding: Tensor, targets: Sequence[Target]) -> float:
        loss = criterion(model(pixels, padding), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        return loss.item()

    return step

"""Post-processing: the top-k scores over queries and classes, with boxes in pixels; no NMS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_convert

from anchordetr.detections import Detections
from anchordetr.types import Predictions


def postprocess(
    predictions: Predictions, sizes: Sequence[tuple[int, int]], top_k: int = 100, labels: Sequence[int] | None = None
) -> list[Detections]:
    """Return the detections of the last layer's predictions, one :class:`Detections` per image.

    Detections are sorted by descending confidence. One query can give detections of several classes.

    Args:
        predictions: those of B images.
        sizes: (height, width) of each image in pixels, to which the boxes are scaled.
        top_k: the largest number of detections per image; Q·K if that is smaller.
        labels: the class indices to look for; all of them if None.
    """
    logits, boxes = predictions.logits[-1].float(), predictions.boxes[-1].float()
    scores = logits.sigmoid() if labels is None else logits.sigmoid()[..., list(labels)]
    num_classes = scores.shape[-1]
    scores, flat = scores.flatten(1).topk(min(top_k, scores[0].numel()), dim=1)
    query = flat // num_classes
    extent = torch.tensor([(width, height) for height, width in sizes], device=boxes.device)[:, None]
    xyxy = box_convert(_rows(boxes, query), "cxcywh", "xyxy") * extent.repeat(1, 1, 2)
    anchors = _rows(predictions.anchors.float(), query) * extent
    pattern = query // predictions.num_anchors
    if predictions.pattern_ids is not None:
        pattern = predictions.pattern_ids[pattern]
    label = flat % num_classes if labels is None else torch.tensor(labels, device=flat.device)[flat % num_classes]
    columns = (xyxy, scores, label, anchors, pattern)
    arrays = [column.cpu().numpy() for column in columns]
    return [Detections(*rows) for rows in zip(*arrays, strict=True)]


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Gather rows: values (B, Q, S), index (B, k) -> (B, k, S)."""
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))

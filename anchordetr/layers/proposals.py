"""Encoder proposals: predictions at every location of the memory, for an auxiliary loss or as a query source."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anchordetr.layers.heads import Decoded, Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.queries import Queries
from anchordetr.layers.query_sources import QuerySource
from anchordetr.types import Predictions, Target


class EncoderHead(nn.Module):
    """Predicts classes and a box at every location of the encoded map, with the location's center as the anchor.

    The first stage of two-stage Deformable DETR (Zhu et al., ICLR 2021, appendix).

    Args:
        projection: (..., C) -> (..., C) before the heads. norm: normalisation after it.
        heads: class head and box head of the proposals, separate from the decoder's.
    """

    def __init__(self, *, projection: nn.Module, norm: nn.Module, heads: Heads) -> None:
        super().__init__()
        self.projection = projection
        self.norm = norm
        self.heads = heads

    def forward(self, memory: Memory) -> tuple[Tensor, Predictions]:
        """Return features (B, G·H·W, C) and predictions of one layer; padded locations predict no object."""
        features = self.norm(self.projection(memory.values.float()))
        points = memory.positions.points.expand(*memory.values.shape[:3], 2)
        content, points = (_locations(values, memory.levels) for values in (features, points))
        valid = _valid_locations(memory)
        queries = Queries(content, memory.encode(points), points, num_anchors=points.shape[1], valid=valid)
        return content, self.heads(Decoded(content.unsqueeze(0), points.unsqueeze(0)), queries)


class EncoderPredictions(nn.Module):
    """Training source that returns the encoder's predictions, so that the encoder gets an auxiliary loss.

    Args:
        head: predicts at every location.
    """

    def __init__(self, head: EncoderHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Predictions:
        """Return the predictions of every location; ``heads`` and ``targets`` are not used."""
        predictions: Predictions = self.head(memory)[1]
        return predictions


class ProposalQueries(QuerySource):
    """Queries chosen by content: the locations of the memory whose proposals have the highest class scores.

    References are the proposals' boxes, the content is the features they were predicted from (RT-DETR, Zhao et al.,
    CVPR 2024, section 4.3); neither carries a gradient. Where an image has fewer locations than others of its batch,
    its last queries are padding. In training, the proposals are auxiliary predictions with the name ``encoder``, which
    are matched and have losses.

    Args:
        head: predicts at every location.
        num_queries: Q; if there are fewer locations, all of them become queries.
    """

    def __init__(self, *, head: EncoderHead, num_queries: int) -> None:
        super().__init__()
        self.head = head
        self.num_anchors = num_queries

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        """Return the queries of each image, the most confident ones first."""
        content, predictions = self.head(memory)
        scores = predictions.logits[-1].detach().amax(dim=-1)
        rows = scores.topk(min(self.num_anchors, scores.shape[1]), dim=1).indices.unsqueeze(-1)
        boxes = predictions.boxes[-1].detach().gather(1, rows.expand(-1, -1, 4))
        content = content.detach().gather(1, rows.expand(-1, -1, content.shape[-1])).to(memory.values.dtype)
        valid = _valid_locations(memory)
        return Queries(
            content,
            memory.encode(boxes[..., :2]),
            boxes,
            num_anchors=boxes.shape[1],
            valid=None if valid is None else valid.gather(2, rows.transpose(1, 2)),
            auxiliary={"encoder": predictions} if self.training else {},
        )


def _valid_locations(memory: Memory) -> Tensor | None:
    """Return which locations are no padding: (B, 1, G·H·W), None where all are valid."""
    if memory.valid_x is None or memory.valid_y is None:
        return None
    valid = memory.valid_x[:, None, :, None] & memory.valid_y[:, :, None, None]
    return _locations(valid, memory.levels).transpose(1, 2)


def _locations(values: Tensor, levels: int) -> Tensor:
    """(B·G, H, W, S) -> (B, G·H·W, S)."""
    return torch.unflatten(values, 0, (-1, levels)).flatten(1, 3)

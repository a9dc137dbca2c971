"""Denoising queries: noised targets, from which the decoder learns to reconstruct the targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from anchordetr.layers.heads import Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.queries import Queries
from anchordetr.layers.query_sources import QuerySource
from anchordetr.types import Target

_LEAST_FACTOR = 0.1  # of a noised size


class LabelEmbedding(nn.Embedding):
    """One vector for each class: (K, C)."""

    def for_classes(self, num_classes: int) -> LabelEmbedding:
        """Return a new embedding with random weights for ``num_classes`` classes."""
        return LabelEmbedding(num_classes, self.embedding_dim)


class DenoisingQueries(QuerySource):
    """Queries made from targets: the point is the noised center, the content an embedding of the class.

    Denoising training (Li et al., CVPR 2022, arXiv 2203.01305). Each coordinate of the center moves by up to
    ``point_noise`` of half the box; a label is replaced by a random one with probability ``label_noise``. With
    ``size_noise`` queries are boxes, whose width and height change by up to this fraction; without it they are points.
    With ``negatives`` each group holds every target twice (Zhang et al., arXiv 2203.03605): the second query moves and
    changes by one to two times as much and has to predict no object.

    Args:
        num_classes: K. embed_dim: C.
        groups: number of groups G, each with every target; fewer for images with so many targets that these were more
            than ``most_queries``, but at least one.
        point_noise, label_noise, negatives, size_noise: see above.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        embed_dim: int,
        groups: int,
        point_noise: float = 0.4,
        label_noise: float = 0.2,
        negatives: bool = False,
        size_noise: float | None = None,
        most_queries: int = 512,
    ) -> None:
        super().__init__()
        self.labels = LabelEmbedding(num_classes, embed_dim)
        self.groups = groups
        self.rings = 2 if negatives else 1
        self.point_noise = point_noise
        self.label_noise = label_noise
        self.size_noise = size_noise
        self.most_queries = most_queries

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        """Return the queries of a batch; noise is drawn from torch's default generator.

        A group has S queries, or 2·S with ``negatives``: S is the largest number of targets of an image, rounded up to
        a power of two. Queries without a target are padding (``valid`` is False).

        Raises:
            ValueError: ``targets`` is None.
        """
        if targets is None:
            raise ValueError("Denoising queries are made from targets: call model(images, targets), or model.eval().")
        boxes, labels, is_object = _side_by_side(targets)
        slots = boxes.shape[1]
        groups = max(1, min(self.groups, self.most_queries // max(self.rings * slots, 1)))
        shape = (len(targets), groups, self.rings, slots)  # B, G, rings, S
        boxes, labels, is_object = (values[:, None, None] for values in (boxes, labels, is_object))
        references = self._move(boxes.expand(*shape, 4)).flatten(1, 3)
        content = self.labels(self._flip(labels.expand(shape))).flatten(1, 3)
        valid = is_object.expand(shape)
        is_positive = valid & (torch.arange(self.rings, device=valid.device) == 0)[:, None]
        indices = torch.where(is_positive, torch.arange(shape[-1], device=valid.device), -1)
        return Queries(
            content,
            memory.encode(references[..., :2]),
            references,
            references.shape[1],
            valid=valid.flatten(2),
            target_indices=indices.flatten(2),
        )

    def _move(self, boxes: Tensor) -> Tensor:
        """(B, G, rings, S, 4) -> centers, moved but inside the image, or boxes: (B, G, rings, S, 2 or 4)."""
        ring = torch.arange(self.rings, device=boxes.device)[:, None, None]
        distance = ring + torch.rand_like(boxes[..., :2])
        sign = torch.rand_like(distance).sub(0.5).sign()
        offset = self.point_noise * sign * distance * boxes[..., 2:] / 2
        centers = (boxes[..., :2] + offset).clamp(0.0, 1.0)
        if self.size_noise is None:
            return centers
        change = self.size_noise * (ring + torch.rand_like(distance)) * torch.rand_like(distance).sub(0.5).sign()
        return torch.cat((centers, (boxes[..., 2:] * (1 + change).clamp(min=_LEAST_FACTOR)).clamp(max=1.0)), dim=-1)

    def _flip(self, labels: Tensor) -> Tensor:
        is_flipped = torch.rand(labels.shape, device=labels.device) < self.label_noise
        return torch.where(is_flipped, torch.randint_like(labels, self.labels.num_embeddings), labels)


def _side_by_side(targets: Sequence[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes (B, S, 4), labels (B, S) and which of them are objects (B, S).

    S is a power of two, so that kernels that are autotuned for each number of queries meet few different numbers.
    """
    boxes = pad_sequence([target.boxes.float() for target in targets], batch_first=True)
    labels = pad_sequence([target.labels for target in targets], batch_first=True)
    counts = torch.tensor([len(target.labels) for target in targets], device=labels.device)
    most = labels.shape[1]
    slots = 1 << max(most - 1, 0).bit_length()
    is_object = torch.arange(slots, device=labels.device) < counts[:, None]
    return F.pad(boxes, (0, 0, 0, slots - most)), F.pad(labels, (0, slots - most)), is_object

"""From decoder features to class logits and boxes; one pair of heads for all decoder layers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anchordetr.layers.queries import Queries
from anchordetr.rcda.onednn import Linear
from anchordetr.types import Predictions

_INITIAL_SIZE = 1 / (1 + math.exp(2.0))
_LEAST_SIZE = 1e-3  # of the image
_MOST_FACTOR = 4.0  # exponent of a size's factor in one layer
NO_OBJECT = -50.0
"""Logit of padding: a score of zero, and a focal loss of zero."""


class Decoded(NamedTuple):
    """The output of a decoder and input of the heads.

    Attributes:
        hidden_states: (L, B, Q, C), the output of every layer.
        references: points or boxes in [0, 1] that the predicted boxes are offsets from: (1, B or 1, Q, 2 or 4) for all
            layers, or (L, B, Q, 4) with one set per layer.
    """

    hidden_states: Tensor
    references: Tensor


class ClassHead(Linear):
    """Linear class logits (..., C) -> (..., K); scores are about 0.01 at first, the prior of focal loss."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__(embed_dim, num_classes)
        nn.init.constant_(self.bias, -math.log((1 - 0.01) / 0.01))

    def for_classes(self, num_classes: int) -> ClassHead:
        """Return a new head with random weights for ``num_classes`` classes."""
        return ClassHead(self.in_features, num_classes)


class AnchorBoxHead(nn.Module):
    """Boxes as offsets from the anchor: a three-layer MLP, its first two outputs added to the anchor (section 3.2).

    At first, boxes are centered at the anchor, with a width and height of sigmoid(-2) = 0.12 of the image.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Linear(embed_dim, embed_dim),
            nn.ReLU(),
            Linear(embed_dim, embed_dim),
            nn.ReLU(),
            output := nn.Linear(embed_dim, 4),
        )
        nn.init.zeros_(output.weight)
        with torch.no_grad():
            output.bias.copy_(torch.tensor([0.0, 0.0, -2.0, -2.0]))

    def forward(self, features: Tensor, references: Tensor) -> Tensor:
        """features (..., Q, C), points (..., Q, 2) x y in [0, 1] -> (..., Q, 4) cx cy w h in [0, 1]."""
        offset = self.layers(features).float()
        center = offset[..., :2] + torch.logit(references[..., :2], eps=1e-5)
        return torch.cat((center, offset[..., 2:]), dim=-1).sigmoid()


class RefiningBoxHead(AnchorBoxHead):
    """Boxes as offsets from other boxes, all four numbers before the sigmoid (Deformable DETR, Zhu et al., ICLR 2021).

    At first, boxes equal their references; points count as boxes of sigmoid(-2) = 0.12 of the image.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__(embed_dim)
        output = self.layers[-1]
        assert isinstance(output, nn.Linear)
        nn.init.zeros_(output.bias)

    def forward(self, features: Tensor, references: Tensor) -> Tensor:
        """features (..., Q, C), boxes (..., Q, 4) or points (..., Q, 2) -> boxes (..., Q, 4) cx cy w h in [0, 1]."""
        return (self.layers(features).float() + torch.logit(boxes_at(references), eps=1e-5)).sigmoid()


class RelativeBoxHead(RefiningBoxHead):
    """Boxes as offsets in units of their references' sizes: centers move by parts of them, sizes change by factors.

    The parametrization of R-CNN (Girshick et al., CVPR 2014, appendix C): an offset means the same for small and for
    large boxes. At first, boxes equal their references.
    """

    def forward(self, features: Tensor, references: Tensor) -> Tensor:
        """features (..., Q, C), boxes (..., Q, 4) or points (..., Q, 2) -> boxes (..., Q, 4) cx cy w h."""
        offset, boxes = self.layers(features).float(), boxes_at(references)
        size = boxes[..., 2:].clamp(min=_LEAST_SIZE)
        center = boxes[..., :2] + offset[..., :2] * size
        return torch.cat((center, size * offset[..., 2:].clamp(-_MOST_FACTOR, _MOST_FACTOR).exp()), dim=-1)


def boxes_at(references: Tensor) -> Tensor:
    """Return boxes cx, cy, w, h unchanged, and points x, y as the centers of boxes of the initial size: (..., 4)."""
    return references if references.shape[-1] == 4 else F.pad(references, (0, 2), value=_INITIAL_SIZE)


class Heads(nn.Module):
    """The class head and the box head, shared by all layers; features are cast to float32 (autocast still applies).

    Args:
        class_head: (..., C) -> (..., K).
        box_head: (..., C) and references (..., 2 or 4) -> (..., 4).
    """

    def __init__(self, *, class_head: nn.Module, box_head: nn.Module) -> None:
        super().__init__()
        self.class_head = class_head
        self.box_head = box_head

    def forward(self, decoded: Decoded, queries: Queries) -> Predictions:
        """Return the predictions of every layer; padded queries predict no object."""
        hidden_states = decoded.hidden_states.float()
        batch = hidden_states.shape[1]
        logits = self.class_head(hidden_states)
        if queries.valid is not None:
            logits = logits.masked_fill(~queries.valid.flatten(1).unsqueeze(-1), NO_OBJECT)
        return Predictions(
            logits=logits,
            boxes=self.box_head(hidden_states, decoded.references),
            anchors=queries.references[..., :2].expand(batch, -1, -1).clone(),
            num_anchors=queries.num_anchors,
            pattern_ids=queries.pattern_ids,
            auxiliary=queries.auxiliary,
            target_indices=queries.target_indices,
        )

"""From decoder features to class logits and boxes; one pair of heads for all decoder layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anchordetr.rcda.onednn import Linear

_START_SIZE = 1 / (1 + math.exp(2.0))


class ClassHead(Linear):
    """Linear class logits (..., C) -> (..., K); scores start at 0.01, as focal loss wants them."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__(embed_dim, num_classes)
        nn.init.constant_(self.bias, -math.log((1 - 0.01) / 0.01))


class AnchorBoxHead(nn.Module):
    """Boxes as offsets from the anchor: a three-layer MLP, its first two outputs added to the anchor (section 3.2).

    Boxes start at the anchor with a width and height of sigmoid(-2) = 0.12 of the image.
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

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """features (..., Q, C), anchors (..., Q, 2) x y in [0, 1] -> (..., Q, 4) cx cy w h in [0, 1]."""
        offset = self.layers(features).float()
        centre = offset[..., :2] + torch.logit(points, eps=1e-5)
        return torch.cat((centre, offset[..., 2:]), dim=-1).sigmoid()


class RefiningBoxHead(AnchorBoxHead):
    """Boxes as offsets from other boxes, all four numbers before the sigmoid (Deformable DETR, Zhu et al., ICLR 2021).

    Boxes start as they were; those from points get a width and height of sigmoid(-2) = 0.12 of the image.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__(embed_dim)
        output = self.layers[-1]
        assert isinstance(output, nn.Linear)
        nn.init.zeros_(output.bias)

    def forward(self, features: Tensor, references: Tensor) -> Tensor:
        """features (..., Q, C), boxes (..., Q, 4) or points (..., Q, 2) -> boxes (..., Q, 4) cx cy w h in [0, 1]."""
        return (self.layers(features).float() + torch.logit(boxes_at(references), eps=1e-5)).sigmoid()


def boxes_at(references: Tensor) -> Tensor:
    """Return boxes cx, cy, w, h as they are, and around points x, y boxes of the starting size: (..., 4)."""
    return references if references.shape[-1] == 4 else F.pad(references, (0, 2), value=_START_SIZE)

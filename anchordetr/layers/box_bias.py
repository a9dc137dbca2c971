"""Biases of row-column attention from the boxes of the queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SCALE = 16.0  # distances below 1 / 16 of the image are resolved best
_HIDDEN = 64


class BoxBias(nn.Module):
    """Logit biases of each column and row from its distances to the edges of a query's box, by an MLP for each axis.

    The box relative position bias of Plain DETR (Lin et al., ICCV 2023), whose sum over two axes is what row-column
    attention computes with. The last layers are zero at first.

    Args:
        num_heads: M.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.x = _mlp(num_heads)
        self.y = _mlp(num_heads)

    def forward(self, boxes: Tensor, columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the biases of both axes.

        Args:
            boxes: (B, N, 4) cx, cy, w, h in [0, 1]. columns: (B or 1, W) x. rows: (B or 1, H) y of the map.

        Returns:
            (B, M, N, W) and (B, M, N, H), to be added to the logits.
        """
        low, high = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
        edges = torch.stack((low, high), dim=-1)  # (B, N, axis, 2)
        return self._bias(self.x, edges[:, :, 0], columns), self._bias(self.y, edges[:, :, 1], rows)

    def _bias(self, mlp: nn.Sequential, edges: Tensor, centers: Tensor) -> Tensor:
        distances = centers[:, None, :, None] - edges[:, :, None, :]
        scaled = distances.sign() * torch.log2(1 + _SCALE * distances.abs()) / 4
        bias: Tensor = mlp(scaled.to(next(mlp.parameters()).dtype))
        return bias.movedim(-1, 1)


def _mlp(num_heads: int) -> nn.Sequential:
    mlp = nn.Sequential(nn.Linear(2, _HIDDEN), nn.ReLU(), output := nn.Linear(_HIDDEN, num_heads))
    nn.init.zeros_(output.weight)
    nn.init.zeros_(output.bias)
    return mlp

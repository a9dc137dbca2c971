"""The feed-forward network of a transformer layer."""

from __future__ import annotations

from torch import Tensor, nn

from anchordetr.rcda.onednn import Linear


class FeedForward(nn.Module):
    """Two linear layers with ReLU, a residual connection and post-norm.

    Args:
        embed_dim: C. hidden_dim: channels between the two layers.
        dropout: probability of dropping a hidden or an output value in training.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = Linear(embed_dim, hidden_dim, relu=True)
        self.linear2 = Linear(hidden_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        hidden = self.dropout(self.linear1(features))
        return self.norm(features + self.dropout(self.linear2(hidden)))

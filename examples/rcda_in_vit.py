"""A timm vision transformer whose attention is row-column decoupled, trained on a small generated task.

python examples/rcda_in_vit.py            # about a minute on 2 cores, downloads nothing

The task: a bright bar on noise, horizontal or vertical, in one of four quarters: eight classes.
"""

from __future__ import annotations

import argparse
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anchordetr.rcda import RowColumnAttention


class TokenAttention(nn.Module):
    """Row-column attention over the H·W tokens of an image."""

    def __init__(self, channels: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.attention = RowColumnAttention(channels, heads)

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        """(B, H·W, C) -> (B, H·W, C)."""
        output: Tensor = self.attention(tokens.unflatten(1, self.grid))
        return output.flatten(1, 2)


def build_vit(size: int, patch: int) -> nn.Module:
    """Return a small vision transformer without class token whose attention is replaced."""
    vit = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=size,
        patch_size=patch,
        depth=4,
        num_classes=8,
        class_token=False,
        global_pool="avg",
    )
    for block in vit.blocks:
        block.attn = TokenAttention(vit.embed_dim, block.attn.num_heads, vit.patch_embed.grid_size)
    with torch.no_grad():
        vit.pos_embed.mul_(
            25
        )  # as large as the patch embeddings: before training, little else distinguishes the pooled keys
    return vit


def draw(count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images (count, 3, size, size) and labels (count,): quarter times two plus direction."""
    images = torch.randn(count, 3, size, size, generator=generator)
    labels = torch.randint(8, (count,), generator=generator)
    half = size // 2
    for image, label in zip(images, labels.tolist(), strict=True):
        quarter, is_vertical = divmod(label, 2)
        length, thickness = half // 2, size // 8
        height, width = (length, thickness) if is_vertical else (thickness, length)
        top = half * (quarter // 2) + int(torch.randint(half - height, (), generator=generator))
        left = half * (quarter % 2) + int(torch.randint(half - width, (), generator=generator))
        image[:, top : top + height, left : left + width] += 3.0
    return images, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--patch", type=int, default=4)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    vit = build_vit(arguments.size, arguments.patch)
    optimizer = torch.optim.AdamW(vit.parameters(), lr=5e-4)
    generator = torch.Generator().manual_seed(0)
    for step in range(arguments.steps):
        images, labels = draw(32, arguments.size, generator)
        loss = F.cross_entropy(vit(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}")
    images, labels = draw(256, arguments.size, generator)
    with torch.no_grad():
        accuracy = (vit.eval()(images).argmax(dim=1) == labels).float().mean().item()
    print(f"accuracy on new images {accuracy:.3f}; guessing gives 0.125")


if __name__ == "__main__":
    main()

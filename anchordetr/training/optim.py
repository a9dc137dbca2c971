"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


def build_optimizer(model: nn.Module, lr: float, backbone_lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with one parameter group for the backbone and one for everything else."""
    parameters = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    backbone = [value for name, value in parameters if name.startswith("backbone.")]
    others = [value for name, value in parameters if not name.startswith("backbone.")]
    groups = [{"params": others, "lr": lr}, {"params": backbone, "lr": backbone_lr}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)


def build_scheduler(
    optimizer: torch.optim.Optimizer, schedule: str, warmup: float, drop_at: float, total_steps: int
) -> LambdaLR:
    """Return a schedule that is stepped after every optimizer step; it depends on the number of the step alone.

    Args:
        schedule: ``step`` divides the rates by 10 for the last steps; ``cosine`` lets them fall to zero at the end.
        warmup: share of all steps in which the rates rise linearly from zero. drop_at: share after which they drop.
        total_steps: of the whole training.
    """
    warmup_steps = warmup * total_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if schedule == "step":
            return 0.1 if step >= drop_at * total_steps else 1.0
        done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return LambdaLR(optimizer, factor)

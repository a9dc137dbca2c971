"""Optimizer, learning-rate schedule, gradient scaler and EMA."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from anchordetr.config import TrainConfig
from anchordetr.console import say
from anchordetr.errors import setting
from anchordetr.training.ema import build_ema


@dataclass(frozen=True)
class Optimization:
    """The parts that turn gradients into new weights.

    Attributes:
        optimizer: see :func:`build_optimizer`.
        scheduler: stepped after every optimizer step.
        scaler: scales the loss in fp16; disabled otherwise.
        ema: exponential moving average of the network, or None.
        clip_norm: largest norm of the gradient.
    """

    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None
    clip_norm: float

    @property
    def lr(self) -> float:
        """The learning rate of the next step, for everything but the backbone."""
        return float(self.optimizer.param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Clear all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a loss."""
        self.scaler.scale(loss).backward()

    def clip_gradient(self, model: nn.Module) -> Tensor:
        """Clip the gradient of a network; return its norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        return nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)

    def step(self, model: nn.Module) -> None:
        """Update the weights of a network, then the scale of the loss, the learning rates and the EMA."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        if self.ema is not None:
            self.ema.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs to resume from here."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a saved state, with the schedule of this run, which may be longer than the saved one."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        rates = zip(self.optimizer.param_groups, self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True)
        for group, base, factor in rates:
            group["lr"] = base * factor(self.scheduler.last_epoch)
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])


def build_optimization(model: nn.Module, settings: TrainConfig, steps_per_epoch: int) -> Optimization:
    """Return the optimizer, schedule, scaler and EMA that the settings describe, for a network on its device."""
    optimizer = build_optimizer(model, *learning_rates(settings), settings.weight_decay)
    total_steps = settings.epochs * steps_per_epoch
    device = next(model.parameters()).device
    return Optimization(
        optimizer,
        build_scheduler(optimizer, settings.schedule, settings.warmup, settings.drop_at, total_steps),
        torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16"),
        build_ema(model, settings.ema_decay),
        settings.clip_max_norm,
    )


def learning_rates(settings: TrainConfig) -> tuple[float, float]:
    """Return the learning rates of the network and of the backbone, scaled with the batch size if the settings say so.

    If the batch size is not the one that the rates are meant for, a note on stderr says what was done.
    """
    factor = settings.batch_size / settings.lr_batch_size
    rates = settings.lr, settings.backbone_lr
    if factor == 1.0:
        return rates
    scaled = settings.lr * factor, settings.backbone_lr * factor
    shown = f"{scaled[0]:.3g} and {scaled[1]:.3g} for the backbone"
    if settings.scale_lr:
        say(f"Learning rates are scaled from batch size {settings.lr_batch_size} to {settings.batch_size}: {shown}.")
        return scaled
    say(
        f"The learning rates are meant for batch size {settings.lr_batch_size}, and it is {settings.batch_size}. "
        f"{setting('train.scale_lr', 'true')} would scale them to {shown}."
    )
    return rates


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
    """Return a schedule that is stepped after every optimizer step, and depends only on the number of the step.

    Args:
        schedule: ``step`` divides the rates by 10 for the last steps; ``cosine`` decays them to zero.
        warmup: share of all steps in which the rates rise linearly from zero.
        drop_at: share of all steps after which ``step`` drops them.
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

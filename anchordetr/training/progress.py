"""The progress of a run: counters, running sums of losses, and the log, all saved with its state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anchordetr.metrics import LOSS_TERMS, Metrics

LOSSES = ("total", *LOSS_TERMS)
"""Names of the losses that are logged: the weighted sum, and those of the last decoder layer."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        reason: why it ended, such as ``all 50 epochs are trained``.
        best_epoch: the epoch of the best model, from 1.
        seconds: spent on training, evaluating and saving; of all processes that resumed the run one after the other.
        device: name of the GPU or processor, threads and processes.
    """

    reason: str
    best_epoch: int
    seconds: float
    device: str


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        epoch: number of complete epochs.
        evaluation_pending: whether the last one is still to be evaluated.
        step: number of steps done in the current epoch.
        sums: sums of the losses over those steps.
        lr: learning rate of the last step.
        best_ap: the highest AP so far, minus infinity before the first evaluation.
        evaluations_without_improvement: evaluations since ``best_ap``.
        history: one log entry for each epoch.
        seconds: time spent so far.
    """

    epoch: int = 0
    evaluation_pending: bool = False
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    lr: float = 0.0
    best_ap: float = -math.inf
    evaluations_without_improvement: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_evaluated(self) -> bool:
        """Whether any epoch was evaluated, so that there is a best model."""
        return self.best_ap > -math.inf

    def add_step(self, losses: Mapping[str, float], lr: float) -> None:
        """Count a step; add its losses and note its learning rate."""
        self.step += 1
        self.lr = lr
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def finish_epoch(self, evaluation_pending: bool) -> None:
        """Count an epoch, and log its number, its mean losses and its last learning rate."""
        means = {f"loss_{name}": value / self.step for name, value in self.sums.items()}
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        self.history.append({"epoch": self.epoch, **means, "lr": self.lr})
        self.evaluation_pending = evaluation_pending

    def add_evaluation(self, metrics: Metrics) -> bool:
        """Add metrics to the last epoch's log entry; return whether their AP is the highest so far."""
        self.history[-1].update(metrics.to_dict())
        self.evaluation_pending = False
        self.evaluations_without_improvement += 1
        if metrics.ap <= self.best_ap:
            return False
        self.best_ap, self.evaluations_without_improvement = metrics.ap, 0
        return True

    def best_entry(self) -> dict[str, Any]:
        """Return the log entry with the highest AP; the first one if several are equal."""
        return max((entry for entry in self.history if "ap" in entry), key=lambda entry: entry["ap"])

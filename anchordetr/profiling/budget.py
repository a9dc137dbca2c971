"""AP and time of a network with a budget: a part of its queries and decoder layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import ceil
from statistics import median
from typing import NamedTuple

import torch

from anchordetr.optimize.budget import Budget
from anchordetr.profiling.timing import time_in_turn

Patterns = tuple[int, ...]


@dataclass(frozen=True)
class BudgetResult:
    """Time and accuracy with one budget.

    Attributes:
        anchors: number of anchors.
        patterns: numbers of the patterns that are used.
        layers: number of decoder layers.
        queries: anchors times patterns.
        seconds: time for one image, the median of the rounds.
        ap, ap50: COCO's, fractions of 1.
    """

    anchors: int
    patterns: Patterns
    layers: int
    queries: int
    seconds: float
    ap: float
    ap50: float


class _Choice(NamedTuple):
    """A budget with all of its values given."""

    anchors: int
    patterns: Patterns
    layers: int

    @property
    def budget(self) -> Budget:
        return Budget(*self)


@dataclass(frozen=True)
class BudgetGrid:
    """The budgets to measure: every combination of these numbers of anchors and of layers.

    Attributes:
        anchors: numbers of anchors.
        num_patterns: number of patterns of the trained network.
        layers: numbers of decoder layers.
    """

    anchors: Sequence[int]
    num_patterns: int
    layers: Sequence[int]

    def of_one_pattern(self) -> list[_Choice]:
        """Return one choice per pattern: that pattern alone, with the most anchors and layers."""
        return [_Choice(max(self.anchors), (number,), max(self.layers)) for number in range(self.num_patterns)]

    def with_patterns(self, patterns: Patterns) -> list[_Choice]:
        """Return all combinations of anchors and layers, each with these patterns."""
        return [_Choice(anchors, patterns, layers) for anchors, layers in product(self.anchors, self.layers)]


def halves(count: int) -> list[int]:
    """Return a number, its half and its quarter, rounded up."""
    return [count, ceil(count / 2), ceil(count / 4)]


def measure_budgets(
    grid: BudgetGrid,
    evaluate: Callable[[Budget], tuple[float, float]],
    predict: Callable[[Budget], object],
    device: torch.device,
    rounds: int,
) -> list[BudgetResult]:
    """Measure AP and time of the grid's budgets, the largest first, with all patterns and with the best one.

    Which pattern is best is found by evaluating each one alone; these budgets are among the results too.

    Args:
        evaluate: returns AP and AP50 with a budget.
        predict: runs on one image with a budget.
        rounds: how often each budget predicts; the budgets take turns.

    Raises:
        UsageError: a budget asks for more than the network has.
    """
    scores = {choice: evaluate(choice.budget) for choice in grid.of_one_pattern()}
    best = max(scores, key=lambda choice: scores[choice]).patterns
    everything = tuple(range(grid.num_patterns))
    choices = sorted({*scores, *grid.with_patterns(everything), *grid.with_patterns(best)}, key=_largest_first)
    scores |= {choice: evaluate(choice.budget) for choice in choices if choice not in scores}
    names = {str(choice): choice for choice in choices}
    candidates = {name: partial(predict, choice.budget) for name, choice in names.items()}
    seconds = {names[name]: median(times) for name, times in time_in_turn(candidates, device, rounds).items()}
    return [
        BudgetResult(*choice, choice.anchors * len(choice.patterns), seconds[choice], *scores[choice])
        for choice in choices
    ]


def _largest_first(choice: _Choice) -> tuple[int, Patterns, int, int]:
    return -len(choice.patterns), choice.patterns, -choice.anchors, -choice.layers

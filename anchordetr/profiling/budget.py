"""What a budget of queries and decoder layers costs in AP, and what it saves in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import ceil
from statistics import median

import torch

from anchordetr.profiling.timing import time_in_turn

Patterns = tuple[int, ...]


@dataclass(frozen=True)
class BudgetResult:
    """One budget.

    Attributes:
        anchors, layers: how many. patterns: their numbers. queries: anchors times patterns.
        seconds: for one image, median of the rounds. ap, ap50: COCO's, fractions of 1.
    """

    anchors: int
    patterns: Patterns
    layers: int
    queries: int
    seconds: float
    ap: float
    ap50: float


def halves(count: int) -> list[int]:
    """Return a number, its half and its quarter, rounded up."""
    return [count, ceil(count / 2), ceil(count / 4)]


def measure_budgets(
    anchors: Sequence[int],
    num_patterns: int,
    layers: Sequence[int],
    evaluate: Callable[[int, Patterns, int], tuple[float, float]],
    predict: Callable[[int, Patterns, int], object],
    device: torch.device,
    rounds: int,
) -> list[BudgetResult]:
    """Measure AP and time of budgets, the largest first: all numbers of anchors and layers, all patterns and one.

    Which one is found by measuring each pattern alone with the most anchors and layers; all these are returned too.

    Args:
        anchors, layers: numbers to combine.
        num_patterns: P.
        evaluate: returns AP and AP50 with so many anchors, these patterns and so many layers.
        predict: runs on one image with the same.
        rounds: how often each budget predicts; all take turns.

    Raises:
        UsageError: the network has less than a budget asks for.
    """
    alone: list[tuple[int, Patterns, int]] = [(max(anchors), (number,), max(layers)) for number in range(num_patterns)]
    scores = {rung: evaluate(*rung) for rung in alone}
    _, best, _ = max(scores, key=lambda rung: scores[rung])
    steps = [rung for choice in (tuple(range(num_patterns)), best) for rung in product(anchors, [choice], layers)]
    rungs = sorted({*steps, *alone}, key=lambda rung: (-len(rung[1]), rung[1], -rung[0], -rung[2]))
    scores |= {rung: evaluate(*rung) for rung in rungs if rung not in scores}
    names = {str(rung): rung for rung in rungs}
    runs = {name: partial(predict, *rung) for name, rung in names.items()}
    seconds = {names[name]: median(times) for name, times in time_in_turn(runs, device, rounds).items()}
    return [BudgetResult(*rung, rung[0] * len(rung[1]), seconds[rung], *scores[rung]) for rung in rungs]

"""Which budgets are measured, in which order, and which pattern stands for one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anchordetr.optimize.budget import Budget
from anchordetr.profiling.budget import BudgetGrid, halves, measure_budgets
from anchordetr.visualize.plots import plot_budgets

CPU = torch.device("cpu")


def test_halves_round_up() -> None:
    assert halves(300) == [300, 150, 75]
    assert halves(9) == [9, 5, 3]


def test_the_best_pattern_alone_stands_for_one(tmp_path: Path) -> None:
    evaluated: list[Budget] = []
    predicted: list[Budget] = []

    def evaluate(budget: Budget) -> tuple[float, float]:
        evaluated.append(budget)
        share = sum((0.1, 0.3, 0.2)[number] for number in budget.patterns)
        return 0.01 * budget.anchors * budget.layers * share, 0.5

    results = measure_budgets(BudgetGrid([4, 2], 3, [1, 2]), evaluate, predicted.append, CPU, rounds=1)
    both = [(4, 2), (4, 1), (2, 2), (2, 1)]
    expected = [(4, (0,), 2), *((a, (1,), n) for a, n in both), (4, (2,), 2)]
    expected = [*((a, (0, 1, 2), n) for a, n in both), *expected]
    assert [(row.anchors, row.patterns, row.layers) for row in results] == expected
    budgets = [Budget(*choice) for choice in expected]
    assert len(evaluated) == len(budgets)
    assert set(evaluated) == set(budgets)
    assert {predicted.count(budget) for budget in budgets} == {3}
    assert (results[0].queries, results[0].ap, results[0].ap50) == (12, pytest.approx(0.048), 0.5)
    assert all(row.seconds > 0 for row in results)
    pytest.importorskip("matplotlib", reason="needs the extra anchordetr[plots]")
    plot_budgets(results, tmp_path / "budget.png")
    assert (tmp_path / "budget.png").stat().st_size > 1000


def test_one_pattern_is_measured_once() -> None:
    grid = BudgetGrid([4], 1, [1, 2])
    results = measure_budgets(grid, lambda budget: (0.1, 0.2), lambda budget: None, CPU, rounds=1)
    assert [(row.patterns, row.layers) for row in results] == [((0,), 2), ((0,), 1)]

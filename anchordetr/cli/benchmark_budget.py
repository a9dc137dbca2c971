"""The command ``anchordetr benchmark budget``: accuracy and time with fewer queries and decoder layers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from anchordetr.cli import options
from anchordetr.cli.tables import fraction, print_json, require_output, write_output
from anchordetr.console import say, table_text

if TYPE_CHECKING:
    from anchordetr.profiling.budget import BudgetResult


def budget(
    weights: options.Weights,
    data: options.Data,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "val",
    anchors: Annotated[
        str | None, typer.Option(help="Numbers of anchors, separated by commas; by default all, half and a quarter.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Numbers of decoder layers, separated by commas; by default every number.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many times each budget predicts.")] = 15,
    plot: Annotated[
        Path | None, typer.Option(help="Draw AP by time into this file (png, svg, pdf); an existing file is replaced.")
    ] = None,
    plugin: options.Plugin = None,
    device: options.Device = "auto",
    output: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
    json: options.Json = False,
) -> None:
    """Measure AP and time of a trained model with fewer anchors, patterns and decoder layers."""
    from anchordetr.detector import Detector
    from anchordetr.machine import describe_machine
    from anchordetr.optimize.budget import Budget, largest_budget
    from anchordetr.profiling.budget import BudgetGrid, halves, measure_budgets
    from anchordetr.training.data import open_split
    from anchordetr.visualize.figure import attempt, require_chart
    from anchordetr.visualize.plots import plot_budgets

    require_output(output)
    if plot is not None:
        require_chart(plot)
    chosen_anchors = options.parse_numbers("--anchors", anchors) if anchors else None
    chosen_layers = options.parse_numbers("--layers", layers) if layers else None
    detector = Detector.from_pretrained(weights, device)
    num_anchors, num_patterns, num_layers = largest_budget(detector.model)
    steps = [num_anchors] if detector.config.model.queries == "embeddings" else halves(num_anchors)
    sample = open_split(data, split, detector.config).image(0)

    grid = BudgetGrid(
        anchors=chosen_anchors or steps,
        num_patterns=num_patterns,
        layers=chosen_layers or range(1, num_layers + 1),
    )

    def evaluate(budget: Budget) -> tuple[float, float]:
        metrics = detector.evaluate(data, split, **vars(budget))
        say(f"{budget.anchors} anchors, patterns {budget.patterns}, {budget.layers} layers: AP {metrics.ap:.3f}")
        return metrics.ap, metrics.ap50

    def predict(budget: Budget) -> object:
        return detector.predict(sample, threshold=0.5, **vars(budget))

    results = measure_budgets(grid, evaluate, predict, detector.device, rounds)
    result = {
        "weights": weights,
        "data": data,
        "split": split,
        "image": list(sample.shape[-2:]),
        "rounds": rounds,
        "machine": describe_machine(detector.device),
        "budgets": [asdict(row) for row in results],
    }
    if json:
        print_json(result)
    else:
        _print(results, f"{weights} on {data}, {split}")
    write_output(output, result)
    if plot is not None:
        attempt(plot, lambda path: plot_budgets(results, path))


def _print(results: list[BudgetResult], title: str) -> None:
    table = Table(title=table_text(title))
    for column in ("anchors", "patterns", "queries", "layers", "ms per image", "speed-up", "AP", "AP50"):
        table.add_column(column, justify="left" if column == "patterns" else "right")
    slowest = results[0].seconds
    for row in results:
        patterns = " ".join(map(str, row.patterns))
        speed = f"{row.seconds * 1000:.1f}", f"{slowest / row.seconds:.2f}"
        accuracy = fraction(row.ap), fraction(row.ap50)
        table.add_row(str(row.anchors), patterns, str(row.queries), str(row.layers), *speed, *accuracy)
    Console().print(table)

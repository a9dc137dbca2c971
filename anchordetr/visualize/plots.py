"""Charts of training runs and measurements; they need matplotlib (``anchordetr[plots]``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from anchordetr.metrics import LOSS_TERMS
from anchordetr.visualize.figure import new_figure, save


class MeasuredCost(Protocol):
    """The peak memory of one layer in one mode; None where it was not measured."""

    @property
    def measured_bytes(self) -> int | None: ...


class MeasuredAttention(Protocol):
    """The memory of one attention layer over one map, such as ``profiling.attention_memory.AttentionMemory``."""

    @property
    def features(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def attention(self) -> str: ...
    @property
    def inference(self) -> MeasuredCost: ...
    @property
    def training(self) -> MeasuredCost: ...


class MeasuredBudget(Protocol):
    """AP and time of one budget, such as ``profiling.budget.BudgetResult``."""

    @property
    def anchors(self) -> int: ...
    @property
    def patterns(self) -> Sequence[int]: ...
    @property
    def layers(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def ap(self) -> float: ...


def plot_attention_memory(rows: Sequence[MeasuredAttention], path: Path) -> None:
    """Draw the measured peaks of inference and training by map and attention, on a logarithmic axis.

    Raises:
        InputError: matplotlib cannot be used.
    """
    maps = list(dict.fromkeys((row.features, row.height, row.width) for row in rows))
    kinds = list(dict.fromkeys(row.attention for row in rows))
    figure = new_figure(4 + 2 * len(maps), 5)
    for mode, axes in zip(("inference", "training"), figure.subplots(1, 2, sharey=True), strict=True):
        for index, kind in enumerate(kinds):
            places, heights = [], []
            for row in rows:
                measured = getattr(row, mode).measured_bytes
                if row.attention == kind and measured is not None:
                    places.append(maps.index((row.features, row.height, row.width)) + (index + 0.5) / (len(kinds) + 1))
                    heights.append(measured / 2**20)
            axes.bar(places, heights, width=1 / (len(kinds) + 1), label=kind)
        axes.set_xticks([index + 0.5 for index in range(len(maps))], [f"{name}\n{h}x{w}" for name, h, w in maps])
        axes.set_yscale("log")
        axes.set_title(mode)
    figure.axes[0].set_ylabel("peak above input and weights, MiB")
    figure.axes[1].legend()
    save(figure, path)


def plot_history(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a run by epoch: the total loss, the losses of the last decoder layer, and the AP.

    Raises:
        InputError: matplotlib cannot be used.
    """
    figure = new_figure(13, 4)
    evaluated = [entry for entry in history if "ap" in entry]
    parts = (
        ("loss (sum over all layers)", history, {"total": "loss_total"}),
        ("losses of the last layer", history, {name: f"loss_{name}" for name in LOSS_TERMS}),
        ("AP", evaluated, {"AP": "ap", "AP50": "ap50", "AP75": "ap75"}),
    )
    for axes, (title, entries, lines) in zip(figure.subplots(1, 3), parts, strict=True):
        epochs = [entry["epoch"] for entry in entries]
        for label, key in lines.items():
            axes.plot(epochs, [entry[key] for entry in entries], ".-", label=label)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) > 1:
            axes.legend()
    save(figure, path)


def plot_budgets(results: Sequence[MeasuredBudget], path: Path) -> None:
    """Draw AP by time: a line for each choice of queries, with a point for each number of decoder layers.

    Raises:
        InputError: matplotlib cannot be used.
    """
    figure = new_figure(9, 5)
    axes = figure.subplots()
    for anchors, patterns in dict.fromkeys((result.anchors, result.patterns) for result in results):
        line = [result for result in results if (result.anchors, result.patterns) == (anchors, patterns)]
        label = f"{anchors} anchors, patterns {', '.join(map(str, patterns))}"
        axes.plot([result.seconds * 1000 for result in line], [result.ap for result in line], ".-", label=label)
        for result in line:
            axes.annotate(str(result.layers), (result.seconds * 1000, result.ap))
    axes.set_xlabel("ms per image (numbers: decoder layers)")
    axes.set_ylabel("AP")
    figure.legend(loc="outside right upper")
    save(figure, path)


def plot_bands(
    curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]], x_label: str, y_label: str, path: Path
) -> None:
    """Draw the mean of each name's runs, and a band from their minimum to their maximum.

    Args:
        curves: the points (x, y) of every run, by name; runs of one name are cut to the length of the shortest.

    Raises:
        InputError: matplotlib cannot be used.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    for name, runs in curves.items():
        length = min(len(run) for run in runs)
        x = [point[0] for point in runs[0][:length]]
        y = np.array([[point[1] for point in run[:length]] for run in runs])
        (line,) = axes.plot(x, y.mean(axis=0), ".-", label=name)
        axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend()
    save(figure, path)

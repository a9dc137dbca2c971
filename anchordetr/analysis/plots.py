"""Charts of measurements; they need matplotlib, which ``anchordetr[plots]`` brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anchordetr.analysis.memory import AttentionMemory
from anchordetr.errors import InputError


def plot_attention_memory(rows: Sequence[AttentionMemory], path: Path) -> None:
    """Draw the measured peaks of inference and training by map and attention, on a logarithmic axis.

    Raises:
        InputError: matplotlib is not installed.
    """
    maps = list(dict.fromkeys((row.features, row.height, row.width) for row in rows))
    kinds = list(dict.fromkeys(row.attention for row in rows))
    figure = _figure(4 + 2 * len(maps), 5)
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
    figure.savefig(path)


def plot_history(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw losses and AP of a run by epoch.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure = _figure(10, 4)
    losses, metrics = figure.subplots(1, 2)
    epochs = [entry["epoch"] for entry in history]
    for name in ("total", "class", "box", "giou"):
        losses.plot(epochs, [entry[f"loss_{name}"] for entry in history], label=name)
    evaluated = [entry for entry in history if "ap" in entry]
    for name in ("ap", "ap50", "ap75"):
        metrics.plot([entry["epoch"] for entry in evaluated], [entry[name] for entry in evaluated], ".-", label=name)
    losses.set_yscale("log")
    for axes, title in ((losses, "loss"), (metrics, "AP")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.legend()
    figure.savefig(path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("A chart needs matplotlib; run: pip install 'anchordetr[plots]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure

"""The figures of the report of a training run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anchordetr.detections import Detections
from anchordetr.errors import InputError
from anchordetr.metrics import Metrics
from anchordetr.visualize.plots import plot_details, plot_history


def plot_report(
    folder: Path, samples: Iterable[Detections], history: Sequence[Mapping[str, Any]], metrics: Metrics
) -> dict[str, list[Path]]:
    """Draw sample predictions and, if matplotlib is installed, the curves of a training run.

    Args:
        folder: for the files; created if needed.
        samples: predictions with their images.
        history: log entries of the epochs.
        metrics: of the best model; precision-recall curves and confusion matrix are drawn if they have details.

    Returns:
        The files by ``samples`` and ``curves``.
    """
    folder.mkdir(exist_ok=True)
    files = []
    for index, sample in enumerate(samples):
        files.append(folder / f"sample_{index}.jpg")
        sample.plot(files[-1])
    return {"samples": files, "curves": _plot_curves(folder, history, metrics)}


def _plot_curves(folder: Path, history: Sequence[Mapping[str, Any]], metrics: Metrics) -> list[Path]:
    try:
        plot_history(history, folder / "curves.png")
    except InputError:  # without matplotlib
        return []
    if metrics.details is None:
        return [folder / "curves.png"]
    class_names = list(metrics.per_class)
    details = plot_details(metrics.details.precision, metrics.details.confusion(), class_names, folder)
    return [folder / "curves.png", *details]

"""The figures of the report of a training run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anchordetr.detections import Detections
from anchordetr.metrics import Metrics
from anchordetr.visualize.details import plot_details
from anchordetr.visualize.figure import attempt, explain, log
from anchordetr.visualize.plots import plot_history


def plot_report(
    folder: Path, samples: Iterable[Detections], history: Sequence[Mapping[str, Any]], metrics: Metrics
) -> dict[str, list[Path]]:
    """Draw sample predictions and, if matplotlib is installed, the curves of a training run.

    What cannot be drawn is left out with a warning: a figure never ends a run.

    Args:
        folder: for the files; created if needed.
        samples: predictions with their images.
        history: log entries of the epochs.
        metrics: of the best model; precision-recall curves and confusion matrix are drawn if they have details.

    Returns:
        The files by ``samples`` and ``curves``.
    """
    figures: dict[str, list[Path]] = {"samples": [], "curves": []}
    try:
        folder.mkdir(exist_ok=True)
        for index, sample in enumerate(samples):
            figures["samples"] += attempt(folder / f"sample_{index}.jpg", sample.plot)
    except Exception as error:
        log.warning("Sample predictions in %s were not drawn: %s.", folder, explain(error))
    figures["curves"] += attempt(folder / "curves.png", lambda path: plot_history(history, path))
    if metrics.details is not None:
        figures["curves"] += plot_details(metrics.details, list(metrics.per_class), folder)
    return figures

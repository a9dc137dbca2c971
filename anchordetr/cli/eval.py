"""The command ``anchordetr eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anchordetr.cli import options
from anchordetr.cli.tables import print_metrics


def evaluate(
    weights: options.Weights,
    data: options.Data,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "val",
    output_dir: Annotated[Path, typer.Option(help="Folder for metrics.json, which is replaced if it exists.")] = Path(
        "runs/eval"
    ),
    plots: Annotated[
        bool, typer.Option("--plots", help="Also draw precision_recall.png and confusion_matrix.png there.")
    ] = False,
    anchors: options.Anchors = None,
    patterns: options.Patterns = None,
    layers: options.Layers = None,
    plugin: options.Plugin = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Compute COCO's metrics of a saved model on a data set."""
    from anchordetr.detector import Detector
    from anchordetr.disk import make_writable_folder
    from anchordetr.distributed import is_main_process
    from anchordetr.files import write_json
    from anchordetr.visualize.details import plot_details

    budget = (anchors, options.parse_patterns(patterns), layers)
    detector = Detector.from_pretrained(weights, device)
    if is_main_process():
        make_writable_folder(output_dir)
    metrics = detector.evaluate(data, split, *budget)
    if is_main_process():
        print_metrics(metrics, json)  # first, since writing can fail
        write_json(output_dir / "metrics.json", metrics.to_dict())
        if plots and metrics.details is not None:
            plot_details(metrics.details, list(metrics.per_class), output_dir)

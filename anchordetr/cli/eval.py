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
    output_dir: Annotated[
        Path,
        typer.Option(
            help="Folder for metrics.json and detections.json (COCO results), which are replaced if they exist."
        ),
    ] = Path("runs/eval"),
    plots: Annotated[
        bool, typer.Option("--plots", help="Also draw precision_recall.png and confusion_matrix.png there.")
    ] = False,
    anchors: options.Anchors = None,
    patterns: options.Patterns = None,
    layers: options.Layers = None,
    batch_size: options.InferenceBatchSize = None,
    precision: options.InferencePrecision = None,
    resolution: options.InferenceResolution = None,
    set_: options.Set = None,
    plugin: options.Plugin = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Compute COCO's metrics of a saved model on a data set, and write what it detected."""
    from anchordetr.detector import Detector
    from anchordetr.disk import make_writable_folder
    from anchordetr.distributed import is_main_process
    from anchordetr.files import write_json
    from anchordetr.visualize.details import plot_details

    budget = (anchors, options.parse_patterns(patterns), layers)
    changes = options.changes(None, None, set_, options.given(data__resolution=resolution))
    detector = Detector.from_pretrained(weights, device, settings=changes)
    if is_main_process():
        make_writable_folder(output_dir)
    metrics = detector.evaluate(
        data, split, *budget, batch_size=batch_size, precision=precision or "fp32", show_progress=True
    )
    if is_main_process():
        print_metrics(metrics, json, len(metrics.per_class))  # first, since writing can fail
        write_json(output_dir / "metrics.json", metrics.to_dict())
        if metrics.details is not None:
            write_json(output_dir / "detections.json", metrics.details.results())
        if plots and metrics.details is not None:
            plot_details(metrics.details, list(metrics.per_class), output_dir)

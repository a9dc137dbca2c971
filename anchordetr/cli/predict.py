"""The command ``anchordetr predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anchordetr.cli import options
from anchordetr.cli.tables import print_json
from anchordetr.console import printable
from anchordetr.errors import InputError, listed

if TYPE_CHECKING:
    from anchordetr.detections import Detections

_NAMED = 100


def predict(
    sources: Annotated[list[str], typer.Argument(help="Image files, folders, glob patterns or URLs.")],
    weights: options.Weights,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest score to report.")] = 0.5,
    output_dir: Annotated[
        Path,
        typer.Option(help="Folder for predictions.json, predictions.jsonl and the images; existing ones are replaced."),
    ] = Path("runs/predict"),
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Images that cannot be read are counted; the exit code stays 0.")
    ] = False,
    anchors: options.Anchors = None,
    patterns: options.Patterns = None,
    layers: options.Layers = None,
    plugin: options.Plugin = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Detect objects; write predictions.json (COCO results) and one annotated image per input.

    Images that cannot be read are named, the others are predicted; then the exit code is 1 without --skip-broken.
    """
    from anchordetr.cli.prediction_files import PredictionFiles
    from anchordetr.data.sources import expand_sources
    from anchordetr.detector import Detector

    images = expand_sources(sources)
    budget = (anchors, options.parse_patterns(patterns), layers)
    files = PredictionFiles(output_dir)
    unread = {str(image): image_id for image_id, image in enumerate(images, start=1)}
    go_on = skip_broken or len(images) > 1
    predicted = Detector.from_pretrained(weights, device).predict_each(images, threshold, go_on, *budget)
    with files:
        for detections in predicted:
            drawing = files.add(unread.pop(str(detections.source)), detections)
            if not json:
                print(printable(_line(detections, drawing)), flush=True)
    if json:
        print_json(files.results)
    if unread and skip_broken:
        print(f"{len(unread)} of {len(images)} images were skipped.", file=sys.stderr)
    elif unread:
        raise InputError(
            f"{len(unread)} of {len(images)} images could not be read: {listed(list(unread), _NAMED)}. "
            f"The results of the others are in {files.json_file}. With --skip-broken this is no error."
        )


def _line(detections: Detections, drawing: Path | None) -> str:
    """Return what is printed about one image."""
    found = ", ".join(
        f"{label} {score:.2f}"
        for label, score in zip(detections.data["class_name"], detections.confidence, strict=True)
    )
    return f"{detections.source}: {found or 'nothing'}" + (f" -> {drawing}" if drawing else "")

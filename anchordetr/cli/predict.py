"""The command ``anchordetr predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from anchordetr.cli import options
from anchordetr.cli.tables import print_json


def predict(
    sources: Annotated[list[str], typer.Argument(help="Image files, folders, glob patterns or URLs.")],
    weights: options.Weights,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest score to report.")] = 0.5,
    output_dir: Annotated[
        Path, typer.Option(help="Folder for predictions.json and the images; existing ones are replaced.")
    ] = Path("runs/predict"),
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that cannot be read, with a count.")
    ] = False,
    anchors: options.Anchors = None,
    patterns: options.Patterns = None,
    layers: options.Layers = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Detect objects; write predictions.json (COCO results) and one annotated image per input."""
    from anchordetr.data.images import expand_sources
    from anchordetr.detector import Detector
    from anchordetr.files import write_json

    images = expand_sources(sources)
    detector = Detector.from_pretrained(weights, device)
    output_dir.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    image_id = 0
    budget = (anchors, options.parse_patterns(patterns), layers)
    for image_id, detections in enumerate(detector.predict_each(images, threshold, skip_broken, *budget), start=1):
        name = str(detections.source)
        results += [{**result, "file_name": name} for result in detections.to_coco(image_id)]
        image = output_dir / f"{image_id:04d}_{Path(name).stem}.jpg"
        detections.plot(image)
        if not json:
            found = ", ".join(
                f"{label} {score:.2f}"
                for label, score in zip(detections.data["class_name"], detections.confidence, strict=True)
            )
            print(f"{name}: {found or 'nothing'} -> {image}")
    write_json(output_dir / "predictions.json", results)
    if image_id < len(images):
        print(f"{len(images) - image_id} of {len(images)} images were skipped.", file=sys.stderr)
    if json:
        print_json(results)

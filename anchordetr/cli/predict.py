"""The command ``anchordetr predict``."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anchordetr.cli import options
from anchordetr.cli.tables import print_json
from anchordetr.console import printable, say
from anchordetr.errors import InputError, listed

if TYPE_CHECKING:
    from anchordetr.detections import Detections

_NAMED = 100


def predict(
    sources: Annotated[list[str], typer.Argument(help="Image files, folders, glob patterns or URLs.")],
    weights: options.Weights,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Lowest score to report, from 0 to 1, or those of some classes: 'cat=0.3,dog=0.6'; "
            "by default the model's own."
        ),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Report only these classes: 'cat,dog'.")] = None,
    max_detections: Annotated[int, typer.Option(min=1, help="Largest number of detections of an image.")] = 100,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; by default runs/predict, or the first of runs/predict-2, ... without results."
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Use a folder that holds results; files of the same names are replaced."),
    ] = False,
    save: Annotated[
        str,
        typer.Option(
            help="What to write: json (predictions.json, and a .jsonl as they come), coco (coco.json, with "
            "images without detections), yolo-txt (labels/), crops (crops/)."
        ),
    ] = "json",
    images: Annotated[bool, typer.Option("--images/--no-images", help="Write one annotated image per input.")] = True,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Images that cannot be read are counted; the exit code stays 0.")
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
    """Detect objects; write predictions.json (COCO results) and one annotated image per input.

    Images that cannot be read are named, the others are predicted; then the exit code is 1 without --skip-broken.
    """
    from anchordetr.cli.prediction_files import open_formats, output_folder, parse_formats
    from anchordetr.cli.prediction_formats import results_of
    from anchordetr.data.sources import expand_sources
    from anchordetr.detector import Detector
    from anchordetr.progress import progress

    scores = options.parse_threshold(threshold)
    formats = parse_formats(save, images)
    paths = expand_sources(sources)
    pattern_ids = options.parse_patterns(patterns)
    changes = options.changes(None, None, set_, options.given(data__resolution=resolution))
    folder = output_folder(output_dir, overwrite)
    detector = Detector.from_pretrained(weights, device, settings=changes)
    unread = {str(path): image_id for image_id, path in enumerate(paths, start=1)}
    predicted = detector.predict_each(
        paths,
        scores,
        skip_broken or len(paths) > 1,
        keep_images=any(kind.needs_images for kind in formats),
        anchors=anchors,
        patterns=pattern_ids,
        layers=layers,
        batch_size=batch_size,
        precision=precision or "fp32",
        max_detections=max_detections,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
    )
    categories = [
        {"id": number, "name": name} for number, name in zip(detector.category_ids, detector.class_names, strict=True)
    ]
    if output_dir is None:
        say(f"Results go to {folder}.")
    results, last = [], 0
    with (
        open_formats(formats, folder, categories) as writers,
        progress("predict", len(paths)) as advance,
        closing(predicted),
    ):
        for found in predicted:
            image_id = unread.pop(str(found.source))
            files = [writer.add(image_id, found) for writer in writers]
            if json:
                results += results_of(image_id, found)
            else:
                print(printable(_line(found, next(filter(None, files), None))), flush=True)
            advance(image_id - last)
            last = image_id
        advance(len(paths) - last)
    if json:
        print_json(results)
    if unread and skip_broken:
        print(f"{len(unread)} of {len(paths)} images were skipped.", file=sys.stderr)
    elif unread:
        raise InputError(
            f"{len(unread)} of {len(paths)} images could not be read: {listed(list(unread), _NAMED)}. "
            f"The results of the others are in {folder}. With --skip-broken this is no error."
        )


def _line(found: Detections, drawing: Path | None) -> str:
    """Return what is printed about one image."""
    labels = (f"{name} {score:.2f}" for name, score in zip(found["class_name"], found.confidence, strict=True))
    return f"{found.source}: {', '.join(labels) or 'nothing'}" + (f" -> {drawing}" if drawing else "")

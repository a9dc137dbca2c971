"""The command ``anchordetr demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from anchordetr.cli import options
from anchordetr.cli.tables import print_metrics

_IMAGES = 8


def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder for the model and the images; it is replaced.")] = Path(
        "runs/demo"
    ),
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Train a small detector on generated images, evaluate it, and draw its detections: 3 to 4 minutes on 2 cores."""
    start = time.perf_counter()
    from torchvision.transforms.functional import to_pil_image

    from anchordetr.console import say
    from anchordetr.data.layouts.opening import open_dataset
    from anchordetr.detector import Detector
    from anchordetr.models.presets import preset

    say("Drawing shapes, training anchordetr_tiny on them; nothing is downloaded.")
    changes = options.given(train__epochs=epochs, train__seed=seed)
    detector = Detector(preset("anchordetr_tiny").updated(changes), device=device)
    metrics = detector.train("shapes", output_dir, overwrite=True)
    held_out = open_dataset("shapes", "val")
    folder = output_dir / "predictions"
    folder.mkdir(exist_ok=True)
    images = [to_pil_image(held_out.image(index)).resize((384, 384)) for index in range(_IMAGES)]
    for index, detections in enumerate(detector.predict_each(images)):
        detections.plot(folder / f"{index}.png")
    print_metrics(metrics, json)
    seconds = time.perf_counter() - start
    say(f"AP {metrics.ap:.3f}, AP50 {metrics.ap50:.3f} on held-out images after {seconds:.0f} s.")
    say(f"Model: {output_dir}/best. Images: {folder}. Metrics: {output_dir}/metrics.json.")

"""``anchordetr train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anchordetr.cli import options
from anchordetr.cli.tables import print_metrics


def train(
    data: options.Data,
    output_dir: Annotated[Path, typer.Option(help="Where best/, last/, log.jsonl and metrics.json go.")],
    model: Annotated[str, typer.Option(help="A preset; see list-models.")] = "anchordetr_r50_dc5",
    config: options.Config = None,
    set_: options.Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUTPUT_DIR/last.")] = False,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    precision: options.Precision = None,
    gradient_checkpointing: options.GradientCheckpointing = None,
    json: options.Json = False,
) -> None:
    """Train a detector, evaluate it after each epoch, keep the best and the last model."""
    from anchordetr.config import parse_assignments, read_config_file
    from anchordetr.detector import Detector
    from anchordetr.models.builders import preset

    settings = preset(model)
    if config is not None:
        settings = settings.updated(read_config_file(config))
    settings = settings.updated(parse_assignments(set_ or []))
    settings = settings.updated(
        options.given(
            train__epochs=epochs,
            train__batch_size=batch_size,
            train__lr=lr,
            train__seed=seed,
            train__precision=precision,
            train__gradient_checkpointing=gradient_checkpointing,
            data__workers=workers,
        )
    )
    detector = Detector(settings, device=device)
    metrics = detector.train(data, output_dir, resume=resume)
    print_metrics(metrics, json)

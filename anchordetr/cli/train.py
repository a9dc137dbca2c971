"""The command ``anchordetr train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anchordetr.cli import options
from anchordetr.cli.settings import HelpSettings
from anchordetr.cli.tables import print_facts, print_json, print_metrics
from anchordetr.errors import UsageError


def train(
    data: options.Data,
    output_dir: Annotated[Path, typer.Option(help="Folder for best/, last/, log.jsonl and metrics.json.")],
    model: Annotated[
        str | None, typer.Option(help="A preset to start from; see list-models. [default: anchordetr_r50_dc5]")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A trained model to start from, with its settings; as for eval and predict.")
    ] = None,
    match_classes: Annotated[
        str,
        typer.Option(
            help="With --weights: 'name' copies the class head's rows for classes of the same name, 'none' no row."
        ),
    ] = "name",
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    help_settings: HelpSettings = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from OUTPUT_DIR/last; settings that are not given are its own.")
    ] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Resume although the configuration has changed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try every part of the run once, print the plan, and keep nothing.")
    ] = False,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
    val_fraction: options.ValFraction = None,
    device: options.Device = "auto",
    precision: options.Precision = None,
    gradient_checkpointing: options.GradientCheckpointing = None,
    json: options.Json = False,
) -> None:
    """Train a detector, evaluate it after each epoch, and keep the best and the last model."""
    from anchordetr.detector import Detector
    from anchordetr.distributed import is_main_process
    from anchordetr.models.presets import preset

    if model is not None and weights is not None:
        raise UsageError("--weights includes the model: leave out --model, and change parts with --set.")
    changes = {
        **options.changes(recipe, config, set_),
        **options.given(
            train__epochs=epochs,
            train__batch_size=batch_size,
            train__lr=lr,
            train__seed=seed,
            train__precision=precision,
            train__gradient_checkpointing=gradient_checkpointing,
            data__workers=workers,
            data__val_fraction=val_fraction,
        ),
    }
    if resume:
        detector = Detector.from_run(output_dir, device, changes)
    elif weights is None:
        detector = Detector(preset(model or "anchordetr_r50_dc5").updated(changes), device=device)
    else:
        detector = Detector.from_pretrained(weights, device, settings=changes)
    if dry_run:
        plan = detector.dry_run(data)
        print_json(plan) if json else print_facts(plan)
        return
    metrics = detector.train(
        data,
        output_dir,
        resume=resume,
        match_classes=match_classes,  # type: ignore[arg-type]
        accept_changes=accept_changes,
    )
    if is_main_process():
        print_metrics(metrics, json)

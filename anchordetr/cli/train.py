"""The command ``anchordetr train``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anchordetr.cli import options
from anchordetr.cli.settings import HelpSettings
from anchordetr.cli.tables import print_facts, print_json, print_metrics
from anchordetr.errors import InputError, UsageError
from anchordetr.files import numbered

if TYPE_CHECKING:
    from anchordetr.detector import Detector

_RUN = "Run"
_FOLDER = Path("runs/train")


def train(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="With --resume: the output folder of the run.", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=f"{options.DATA_HELP} Required, but not with --resume.",
            show_default=False,
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder for best/, last/, log.jsonl and metrics.json.",
            show_default="runs/train, or the next free one: runs/train-2, ...",
        ),
    ] = None,
    json: options.Json = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="A preset to start from; see list-models.",
            show_default="anchordetr_r50_dc5",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="A trained model to start from, with its settings; as for eval and predict.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    match_classes: Annotated[
        str,
        typer.Option(
            help="With --weights: 'name' copies the class head's rows for classes of the same name, 'none' no row.",
            rich_help_panel=options.MODEL,
        ),
    ] = "name",
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    plugin: options.Plugin = None,
    help_settings: HelpSettings = False,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    resolution: options.Resolution = None,
    lr: options.LearningRate = None,
    backbone_lr: options.BackboneLearningRate = None,
    ema: options.Ema = None,
    patience: options.Patience = None,
    seed: options.Seed = None,
    val_fraction: options.ValFraction = None,
    device: options.Device = "auto",
    precision: options.Precision = None,
    workers: options.Workers = None,
    gradient_checkpointing: options.GradientCheckpointing = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue a run: RUN, --output-dir, or the newest of runs/train, runs/train-2, ...; what is not given "
            "is as it was.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="Resume although configuration or data have changed.", rich_help_panel=_RUN
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in --output-dir.", rich_help_panel=_RUN)
    ] = False,
    save_every: Annotated[
        int | None, options.of_model("Also save the state after so many steps; 0 is never.", _RUN)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try every part of the run once, print the plan, and keep nothing.", rich_help_panel=_RUN
        ),
    ] = False,
) -> None:
    """Train a detector, evaluate it after each epoch, and keep the best and the last model."""
    if model is not None and weights is not None:
        raise UsageError("--weights includes the model: leave out --model, and change parts with --set.")
    if resume and overwrite:
        raise UsageError("--resume continues a run, --overwrite replaces it; give one of them.")
    if run is not None and resume and output_dir is not None:
        raise UsageError(f"The run is named twice, '{run}' and --output-dir {output_dir}; leave out one.")
    if run is not None and not resume:
        raise UsageError(f"'{run}' is the folder of a run for --resume; name the data set with --data.")
    changes = options.changes(
        recipe,
        config,
        set_,
        options.given(
            train__epochs=epochs,
            train__batch_size=batch_size,
            train__lr=lr,
            train__backbone_lr=backbone_lr,
            train__ema_decay=ema,
            train__early_stopping_patience=patience,
            train__save_every=save_every,
            train__seed=seed,
            train__precision=precision,
            train__gradient_checkpointing=gradient_checkpointing,
            data__workers=workers,
            data__val_fraction=val_fraction,
            data__resolution=resolution,
        ),
    )
    from anchordetr.console import say
    from anchordetr.distributed import is_main_process

    if resume:
        from anchordetr.detector import Detector

        folder = run or output_dir or _newest_folder()
        detector = Detector.from_run(folder, device, changes)
    else:
        detector = _new_detector(data, model, weights, device, changes)
        folder = output_dir or _FOLDER
    if dry_run:
        plan = detector.dry_run(data)
        print_json(plan) if json else print_facts(plan)
        return
    if not resume and output_dir is None and not overwrite:
        folder = _free_folder()
    if run is None and output_dir is None:
        say(f"Output folder: {folder}")
    metrics = detector.train(
        data,
        folder,
        resume=resume,
        overwrite=overwrite,
        match_classes=match_classes,  # type: ignore[arg-type]
        accept_changes=accept_changes,
    )
    if is_main_process():
        print_metrics(metrics, json)


def _new_detector(
    data: str | None, model: str | None, weights: str | None, device: str, changes: Mapping[str, Any]
) -> Detector:
    """Return a detector to train, after a look at the data set: networks are built, and weights fetched, in minutes."""
    from anchordetr.models.presets import preset

    if data is None:
        raise UsageError("Missing option '--data', the folder of the data set. See anchordetr train --help.")
    settings = None if weights is not None else preset(model or "anchordetr_r50_dc5").updated(changes)
    from anchordetr.data.layouts.archives import is_archive
    from anchordetr.data.layouts.opening import require_layout
    from anchordetr.detector import Detector
    from anchordetr.weights.published import PUBLISHED

    is_detected = changes.get("data.layout", "auto") == "auto" and not is_archive(Path(data))
    if is_detected and (weights is None or weights in PUBLISHED):
        require_layout(Path(data))
    if settings is not None:
        return Detector(settings, device=device)
    return Detector.from_pretrained(weights or "", device, settings=changes)


def _free_folder() -> Path:
    """Return the first default folder that does not exist or is empty.

    Raises:
        UsageError: several processes train together, which could choose different ones.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("Several processes train together; name one folder for all with --output-dir.")
    return next(folder for folder in numbered(_FOLDER) if not folder.exists() or not any(folder.iterdir()))


def _newest_folder() -> Path:
    """Return the last default folder that holds a run.

    Raises:
        InputError: none does.
    """
    folders = [*_until_missing()]
    if not folders:
        raise InputError(f"There is nothing to resume in {_FOLDER}; name the folder of the run with --output-dir.")
    return folders[-1]


def _until_missing() -> Iterator[Path]:
    for folder in numbered(_FOLDER):
        if not folder.exists():
            return
        if (folder / "last").is_dir():
            yield folder

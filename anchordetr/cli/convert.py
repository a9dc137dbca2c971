"""The command ``anchordetr convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anchordetr.cli import options
from anchordetr.cli.tables import print_facts, print_json
from anchordetr.errors import InputError, UsageError, listed


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint file, or any other value of --weights.")],
    destination: Annotated[Path, typer.Argument(help="A folder for the format 'anchordetr', a file for 'original'.")],
    to: Annotated[
        str, typer.Option(help="The format: 'anchordetr', or 'original' ('official') for the original code.")
    ] = "anchordetr",
    features: Annotated[
        str | None, typer.Option(help="c5 or dc5, for a checkpoint file that does not say which.")
    ] = None,
    class_names: Annotated[
        str | None, typer.Option(help="Class names in the order of the class head's rows, separated by commas.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or fp16 or bf16 for half the size (anchordetr only).")] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    plugin: options.Plugin = None,
    json: options.Json = False,
) -> None:
    """Convert weights between the original implementation, detrex and anchordetr; pickled code is never run."""
    if to not in ("anchordetr", "original", "official"):
        raise UsageError(f"--to {to} is not known; it must be 'anchordetr' or 'original'.")
    if features not in (None, "c5", "dc5"):
        raise UsageError(f"--features {features} is not known; it must be c5 or dc5.")
    from anchordetr.console import say
    from anchordetr.weights.folder import WEIGHTS_FILE
    from anchordetr.weights.official import write_original
    from anchordetr.weights.pretrained import load_pretrained
    from anchordetr.weights.saved_model import write_model

    file = destination / WEIGHTS_FILE if to == "anchordetr" else destination
    if file.exists() and not overwrite:
        raise InputError(f"{file} exists already; choose another destination, or add --overwrite.")
    say(f"Reading {source} (1 of 2).")
    saved = load_pretrained(source, features)
    if class_names is not None:
        saved = saved.with_class_names([name.strip() for name in class_names.split(",")])
    say(f"Writing {destination} (2 of 2).")
    if to == "anchordetr":
        write_model(destination, saved, precision)
    else:
        write_original(destination, saved)
    model = saved.config.model
    facts: dict[str, Any] = {
        **{key: value for key, value in saved.origin.items() if isinstance(value, str)},
        "backbone": model.backbone,
        "attention": model.attention,
        "anchors": f"{model.num_anchors}, {model.anchors}",
        "patterns": model.num_patterns,
        "layers": f"{model.encoder_layers} encoder, {model.decoder_layers} decoder",
        "classes": f"{model.num_classes}: {listed(saved.class_names, 3)}",
        "category ids": f"{min(saved.category_ids)} to {max(saved.category_ids)}",
        "parameters": sum(tensor.numel() for tensor in saved.weights.values()),
        "written": str(destination),
        "bytes": sum(part.stat().st_size for part in destination.glob("*")) or destination.stat().st_size,
    }
    print_json(facts) if json else print_facts(facts)

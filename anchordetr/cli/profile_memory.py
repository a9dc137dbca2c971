"""The command ``anchordetr profile-memory``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from anchordetr.cli import options
from anchordetr.cli.tables import print_json
from anchordetr.console import table_text
from anchordetr.errors import UsageError

if TYPE_CHECKING:
    from anchordetr.profiling.attention_memory import AttentionMemory, Cost
    from anchordetr.profiling.model_memory import Fit, ModelMemory

_BATCH_SIZES = (1, 2, 4, 8, 16)


def profile_memory(
    size: Annotated[str, typer.Option(help="Image size in pixels, HEIGHTxWIDTH.")] = "800x1333",
    features: Annotated[str, typer.Option(help="Feature levels, separated by commas.")] = "c5,dc5,c4,c3",
    attention: Annotated[
        str, typer.Option(help="'rcda BACKEND', 'standard', 'fused', separated by commas; by default all.")
    ] = "",
    model: Annotated[str | None, typer.Option(help="Measure the whole network of this preset instead.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="With --model: images per step.")] = 1,
    fits: Annotated[
        str | None, typer.Option(help="Memory such as 24GB: print the largest images and batches that fit.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the peaks of the layers into this file (png, svg, pdf); an existing file is replaced."),
    ] = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure the memory of attention layers (256 channels, 8 heads, float32), or of a whole network."""
    options.silence_profiler()
    from anchordetr.device import choose_device

    height, width = options.parse_size(size)
    place = choose_device(device)
    if model is None and fits is None:
        from anchordetr.profiling.attention_memory import KINDS, profile_attention
        from anchordetr.visualize.figure import attempt, require_chart
        from anchordetr.visualize.plots import plot_attention_memory

        if plot is not None:
            require_chart(plot)
        kinds = [kind.strip() for kind in attention.split(",") if kind.strip()]
        rows = profile_attention(height, width, features.split(","), place, kinds or KINDS)
        if json:
            print_json([asdict(row) for row in rows])
        else:
            _print_layers(rows, height, width)
        if plot is not None:
            attempt(plot, lambda path: plot_attention_memory(rows, path))
        return
    if plot is not None:
        raise UsageError("--plot draws attention layers; leave out --model and --fits.")
    from anchordetr.models.presets import preset
    from anchordetr.profiling.model_memory import largest_images, parse_memory, profile_model

    name = model or "anchordetr_r50_dc5"
    config = preset(name)
    if fits is not None:
        largest = largest_images(config, height, width, parse_memory(fits), place, _BATCH_SIZES)
        if json:
            print_json([asdict(fit) for fit in largest])
        else:
            _print_fits(largest, name, fits, size)
        return
    memory = profile_model(config, height, width, batch_size, place)
    if json:
        print_json(
            {
                mode: {
                    "weights_bytes": row.weights_bytes,
                    "moments_bytes": row.moments_bytes,
                    "peak_bytes": row.peak_bytes,
                    "stages": {stage: part._asdict() for stage, part in row.stages.items()},
                }
                for mode, row in memory.items()
            }
        )
    else:
        _print_model(memory, f"MiB of {name}, {batch_size} images of {height}x{width}, {place.type}")


def _print_layers(rows: list[AttentionMemory], height: int, width: int) -> None:
    table = Table(title=f"MiB of one self-attention layer on a {height}x{width} image")
    for column in ("map", "attention"):
        table.add_column(column, no_wrap=True)
    for column in ("maps", "Z", "inference", "training", "WM/C", "measured r"):
        table.add_column(column, justify="right")
    for row in rows:
        is_rcda = row.z_bytes > 0
        table.add_row(
            f"{row.features} {row.height}x{row.width}",
            row.attention,
            f"{row.map_bytes / 2**20:.1f}",
            f"{row.z_bytes / 2**20:.1f}" if is_rcda else "-",
            _cost(row.inference),
            _cost(row.training),
            f"{row.paper_ratio:.2f}" if is_rcda else "",
            "" if row.measured_ratio is None else f"{row.measured_ratio:.2f}",
        )
    console = Console()
    console.print(table)
    console.print(
        "maps: attention weights of all heads, by the formula. inference, training: measured peak above input and "
        "weights (predicted peak), time. WM/C: the paper's r, maps of standard attention / Z. measured r: inference "
        "peak of standard attention / that of this row. fused: scaled_dot_product_attention."
    )


def _cost(cost: Cost) -> str:
    predicted = f"({cost.predicted_bytes / 2**20:.1f})"
    if cost.measured_bytes is None or cost.seconds is None:
        return f"too large {predicted}"
    return f"{cost.measured_bytes / 2**20:.1f} {predicted}\n{cost.seconds * 1000:.0f} ms"


def _print_model(memory: dict[str, ModelMemory], title: str) -> None:
    table = Table(title=table_text(title))
    for column in ("mode", "part", "adds", "held after it", "peak in it"):
        table.add_column(column, justify="left" if column in ("mode", "part") else "right")
    for mode, row in memory.items():
        table.add_row(mode, "weights", *[f"{row.weights_bytes / 2**20:.1f}"] * 2, "")
        if row.moments_bytes:
            table.add_row("", "moments", f"{row.moments_bytes / 2**20:.1f}", f"{row.kept_bytes / 2**20:.1f}", "")
        held = 0
        for name, stage in row.stages.items():
            values = (stage.held - held, row.kept_bytes + stage.held, row.kept_bytes + stage.peak)
            table.add_row("", name, *(f"{value / 2**20:.1f}" for value in values))
            held = stage.held
        table.add_row("", "peak", "", "", f"{row.peak_bytes / 2**20:.1f}", end_section=True)
    Console().print(table)


def _print_fits(largest: list[Fit], name: str, fits: str, size: str) -> None:
    table = Table(title=table_text(f"largest images of the shape of {size} that {name} can take in {fits}, float32"))
    for column in ("mode", "batch size", "height x width"):
        table.add_column(column)
    for fit in largest:
        image = f"{fit.height} x {fit.width}" if fit.height else "none"
        table.add_row(fit.mode, str(fit.batch_size), image)
    Console().print(table)

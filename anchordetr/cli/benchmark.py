"""``anchordetr benchmark``: speed, reproducible by anyone in one command."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from anchordetr.cli import options
from anchordetr.cli.tables import print_json
from anchordetr.errors import UsageError, closest_match

app = typer.Typer(no_args_is_help=True, help="Measure speed as ratios, rivals in turn in one process.")


@app.command("rcda")
def rcda(
    size: Annotated[str, typer.Option(help="Cells of the map, HEIGHTxWIDTH.")] = "50x68",
    heads: Annotated[int, typer.Option(min=1, help="Heads M.")] = 8,
    depth: Annotated[int, typer.Option(min=1, help="Channels of a head D.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help="Maps at once.")] = 1,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    backends: Annotated[str, typer.Option(help="Backends of rcda, separated by commas; auto is always there.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each rival runs.")] = 15,
    device: options.Device = "auto",
    output: Annotated[Path | None, typer.Option(help="JSON file for the results; replaced.")] = None,
    json: options.Json = False,
) -> None:
    """Compare RCDA with scaled_dot_product_attention in self-attention over a map: the operator and whole layers."""
    options.silence_profiler()
    from anchordetr.analysis.speed import DTYPES, benchmark_rcda, describe_machine
    from anchordetr.engine.device import choose_device
    from anchordetr.rcda import BACKENDS

    if dtype not in DTYPES:
        raise UsageError(f"Unknown dtype '{dtype}'.{closest_match(dtype, DTYPES)}")
    chosen = [name for name in backends.split(",") if name] or ["reference"]
    for name in chosen:
        if name not in BACKENDS:
            raise UsageError(f"Unknown RCDA backend '{name}'.{closest_match(name, BACKENDS)}")
    height, width = options.parse_size(size)
    place = choose_device(device)
    timings = benchmark_rcda(height, width, place, DTYPES[dtype], heads, depth, batch_size, rounds, (*chosen, "auto"))
    result = {
        "sizes": {"height": height, "width": width, "heads": heads, "depth": depth, "batch_size": batch_size},
        "dtype": dtype,
        "rounds": rounds,
        "machine": describe_machine(place),
        "timings": [asdict(timing) for timing in timings],
    }
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json_module.dumps(result, indent=2), encoding="utf-8")
    if json:
        print_json(result)
        return
    table = Table(title=f"self-attention over {height}x{width} cells, {heads} heads of {depth}, {dtype}, {place.type}")
    for column in ("contest", "rival", "ms", "sdpa's time / its time", "peak MiB"):
        table.add_column(column, justify="left" if column in ("contest", "rival") else "right")
    for timing in timings:
        table.add_row(
            timing.contest,
            timing.rival,
            f"{timing.seconds * 1000:.1f}",
            f"{timing.ratio:.2f}",
            f"{timing.peak_bytes / 2**20:.1f}",
        )
    Console().print(table)

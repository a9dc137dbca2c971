"""``anchordetr profile-memory``."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from anchordetr.cli import options
from anchordetr.cli.tables import print_json


def profile_memory(
    size: Annotated[str, typer.Option(help="Picture size in pixels, HEIGHTxWIDTH.")] = "800x1333",
    features: Annotated[str, typer.Option(help="Feature levels, separated by commas.")] = "c5,dc5,c4,c3",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure the memory of RCDA and standard attention: one self-attention layer, 256 channels, 8 heads, float32."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from anchordetr.analysis.memory import profile_attention
    from anchordetr.engine.device import choose_device

    height, width = options.parse_size(size)
    rows = profile_attention(height, width, features.split(","), choose_device(device))
    if json:
        print_json([asdict(row) for row in rows])
        return
    table = Table(title=f"MiB of one self-attention layer on a {height}x{width} picture")
    for column in ("map", "attention", "maps", "Z", "forward", "training", "WM/C", "measured"):
        table.add_column(column, justify="left" if column in ("map", "attention") else "right")
    for row in rows:
        ratio = "" if row.measured_ratio is None else f"{row.measured_ratio:.2f}"
        is_rcda = row.attention == "rcda"
        table.add_row(
            f"{row.features} {row.height}x{row.width}",
            row.attention,
            _mebibytes(row.map_bytes),
            _mebibytes(row.z_bytes) if is_rcda else "-",
            _mebibytes(row.forward_bytes),
            _mebibytes(row.training_bytes),
            f"{row.paper_ratio:.2f}" if is_rcda else "",
            ratio,
        )
    console = Console()
    console.print(table)
    console.print(
        "maps: attention weights of all heads. forward, training: peaks above input and weights. WM/C: the paper's r, "
        "the maps of standard attention over Z. measured: forward peak of standard attention over the one of rcda. "
        "fused: scaled_dot_product_attention."
    )


def _mebibytes(count: int | None) -> str:
    return "too large" if count is None else f"{count / 2**20:.1f}"

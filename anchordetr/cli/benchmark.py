"""The command ``anchordetr benchmark``: speed of attention, networks, training steps and the loader."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from anchordetr.cli import options
from anchordetr.cli.benchmark_budget import budget
from anchordetr.cli.tables import print_json, require_output, write_output
from anchordetr.console import table_text
from anchordetr.errors import UsageError, closest_match

if TYPE_CHECKING:
    from anchordetr.profiling.timing import Timing

Model = Annotated[str, typer.Option(help="A preset; see list-models.")]
Rounds = Annotated[int, typer.Option(min=1, max=1_000_000, help="How many times each candidate runs.")]
Output = Annotated[Path | None, typer.Option(help="JSON file for the results.")]

app = typer.Typer(
    no_args_is_help=True, help="Measure speed relative to a baseline; candidates run in turn in one process."
)
app.command("budget")(budget)


@app.command("rcda")
def rcda(
    size: Annotated[str, typer.Option(help="Locations of the map, HEIGHTxWIDTH.")] = "50x68",
    heads: Annotated[int, typer.Option(min=1, max=1024, help="Number of heads.")] = 8,
    depth: Annotated[int, typer.Option(min=1, max=4096, help="Channels per head.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Maps per batch.")] = 1,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    backends: Annotated[str, typer.Option(help="Backends of rcda, separated by commas; auto is always included.")] = "",
    rounds: Rounds = 15,
    device: options.Device = "auto",
    output: Output = None,
    json: options.Json = False,
) -> None:
    """Compare RCDA with scaled_dot_product_attention in self-attention over a map: the operator and whole layers."""
    options.silence_profiler()
    require_output(output)
    from anchordetr.device import DTYPES, choose_device
    from anchordetr.machine import describe_machine
    from anchordetr.profiling.attention_speed import AttentionCase, benchmark_rcda
    from anchordetr.rcda import BACKENDS

    _check_known("dtype", [dtype], DTYPES)
    chosen = [name for name in backends.split(",") if name] or ["reference"]
    _check_known("RCDA backend", chosen, BACKENDS)
    height, width = options.parse_size(size)
    place = choose_device(device)
    case = AttentionCase(height, width, heads, depth, batch_size, DTYPES[dtype])
    timings = benchmark_rcda(case, place, (*chosen, "auto"), rounds)
    sizes = {"height": height, "width": width, "heads": heads, "depth": depth, "batch_size": batch_size}
    title = f"self-attention over {height}x{width} locations, {heads} heads of {depth}, {dtype}, {place.type}"
    result = {"sizes": sizes, "dtype": dtype, "rounds": rounds, "machine": describe_machine(place)}
    _report(title, "sdpa", result, timings, output, json)


@app.command("inference")
def inference(
    model: Model = "anchordetr_r50_dc5",
    set_: options.Set = None,
    plugin: options.Plugin = None,
    size: Annotated[str, typer.Option(help="Pixels of the images, HEIGHTxWIDTH.")] = "800x1088",
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Images per batch.")] = 1,
    dtypes: Annotated[
        str, typer.Option(help="Number formats of the optimized network, separated by commas.")
    ] = "float32,bfloat16",
    compile: Annotated[
        bool, typer.Option("--compile", help="Measure torch.compile too; needs a C++ compiler.")
    ] = False,
    rounds: Rounds = 5,
    device: options.Device = "auto",
    output: Output = None,
    json: options.Json = False,
) -> None:
    """Compare a network as built with the same network after optimize_for_inference; random weights."""
    options.silence_profiler()
    require_output(output)
    from anchordetr.config import parse_assignments
    from anchordetr.device import DTYPES, choose_device
    from anchordetr.machine import describe_machine
    from anchordetr.models.presets import preset
    from anchordetr.profiling.model_speed import benchmark_inference, random_images

    chosen = [name for name in dtypes.split(",") if name]
    _check_known("dtype", chosen, DTYPES)
    (height, width), place = options.parse_size(size), choose_device(device)
    config = preset(model).updated(parse_assignments(set_ or []))
    images = random_images(batch_size, height, width, place)
    timings = benchmark_inference(config, images, chosen, rounds, compile)
    sizes = {"height": height, "width": width, "batch_size": batch_size}
    result = {"model": model, "sizes": sizes, "rounds": rounds, "machine": describe_machine(place)}
    title = f"{model}, {batch_size} image(s) of {height}x{width}, {place.type}"
    _report(title, "as built", result, timings, output, json)


@app.command("train-step")
def train_step(
    model: Model = "anchordetr_r50_dc5",
    set_: options.Set = None,
    plugin: options.Plugin = None,
    size: Annotated[str, typer.Option(help="Pixels of the images, HEIGHTxWIDTH.")] = "512x640",
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Images per step.")] = 2,
    objects: Annotated[int, typer.Option(min=1, max=10_000, help="Objects per image.")] = 20,
    rounds: Rounds = 5,
    device: options.Device = "auto",
    output: Output = None,
    json: options.Json = False,
) -> None:
    """Compare training steps as built, with gradient checkpointing and in bfloat16; time the matching alone."""
    options.silence_profiler()
    require_output(output)
    from anchordetr.config import parse_assignments
    from anchordetr.device import choose_device
    from anchordetr.machine import describe_machine
    from anchordetr.models.presets import preset
    from anchordetr.profiling.model_speed import benchmark_training, random_images

    (height, width), place = options.parse_size(size), choose_device(device)
    config = preset(model).updated(parse_assignments(set_ or []))
    timings = benchmark_training(config, random_images(batch_size, height, width, place), objects, rounds)
    sizes = {"height": height, "width": width, "batch_size": batch_size, "objects": objects}
    result = {"model": model, "sizes": sizes, "rounds": rounds, "machine": describe_machine(place)}
    title = f"{model}, {batch_size} images of {height}x{width} with {objects} objects each, {place.type}"
    _report(title, "as built", result, timings, output, json)


@app.command("loader")
def loader(
    data: options.Data,
    model: Model = "anchordetr_r50_dc5",
    set_: options.Set = None,
    plugin: options.Plugin = None,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Images per batch.")] = 8,
    workers: options.Workers = None,
    batches: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of batches to measure.")] = 20,
    json: options.Json = False,
) -> None:
    """Measure the training loader alone: images per second, and the share of padding in its batches."""
    from anchordetr.config import parse_assignments
    from anchordetr.data.layouts.opening import open_dataset
    from anchordetr.data.loader import EpochBatches, train_loader, train_samples
    from anchordetr.models.presets import preset
    from anchordetr.profiling.loader import measure_loader

    config = preset(model).updated(parse_assignments(set_ or [])).updated(options.given(data__workers=workers)).data
    dataset = open_dataset(data, "train", config.layout)
    normalisation = ((0.5,) * 3, (0.25,) * 3)
    order = EpochBatches(len(dataset), batch_size, seed=0, ratios=dataset.annotations.ratios)
    samples = train_samples(dataset, config, seed=0)
    source = train_loader(samples, normalisation, order, config.workers, pin_memory=False)
    speed = measure_loader(source, batches)
    if json:
        print_json(asdict(speed))
        return
    print(
        f"{speed.images_per_second:.1f} images per second, {config.workers} workers; "
        f"{speed.padded_share:.1%} of the pixels are padding ({speed.images} images)"
    )


def _check_known(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"Unknown {what} '{name}'.{closest_match(name, known)}")


def _report(
    title: str, baseline: str, result: dict[str, Any], timings: list[Timing], output: Path | None, json: bool
) -> None:
    """Print the result as a table or as JSON, and write it to a file if one is named."""
    result = {**result, "timings": [asdict(timing) for timing in timings]}
    print_json(result) if json else _print_timings(title, baseline, timings)
    write_output(output, result)


def _print_timings(title: str, baseline: str, timings: list[Timing]) -> None:
    table = Table(title=table_text(title))
    for column in ("case", "candidate", "ms", f"time of '{baseline}' / its time", "peak MiB"):
        table.add_column(column, justify="left" if column in ("case", "candidate") else "right")
    for timing in timings:
        milliseconds, peak = f"{timing.seconds * 1000:.1f}", f"{timing.peak_bytes / 2**20:.1f}"
        table.add_row(timing.case, timing.candidate, milliseconds, f"{timing.ratio:.2f}", peak)
    Console().print(table)

"""Results of training runs, saved as JSON, and AP by images seen, as a table and as curves.

Shared by `ablation.py` and `compare_peers.py`, which compare networks by training them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from anchordetr.config import Config, differences
from anchordetr.errors import InputError, Stopped, UsageError
from anchordetr.files import write_json, write_text
from anchordetr.training.state import STATE_FILE
from anchordetr.visualize.plots import plot_bands

Result = dict[str, Any]
_ANYWHERE = {"data.workers", "model.backbone_weights"}  # what may differ between machines


def run_once(file: Path, config: Config, train: Callable[[], Result]) -> Result:
    """Return the result in ``file``; if there is none, train and write it.

    Raises:
        InputError: the file holds a result of other settings.
    """
    settings = config.model_dump(mode="json")
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, train() | {"config": settings})
    result: Result = json.loads(file.read_text(encoding="utf-8"))
    changed = differences(result["config"], settings).keys() - _ANYWHERE
    if changed:
        raise InputError(
            f"{file} holds a result of other settings ({', '.join(sorted(changed))}); "
            "choose another --output, or remove the file."
        )
    return result


def is_started(folder: Path) -> bool:
    """Return whether a run's folder has a state to resume from."""
    return (folder / "last" / STATE_FILE).is_file()


def read_history(entries: Sequence[Mapping[str, Any]], images_of_an_epoch: int) -> list[dict[str, float]]:
    """Return images seen, AP and AP50 of every evaluation among the epochs of a run's log."""
    return [
        {"images": entry["epoch"] * images_of_an_epoch, "ap": entry["ap"], "ap50": entry["ap50"]}
        for entry in entries
        if "ap" in entry
    ]


def epoch_of(length: int, batch_size: int) -> tuple[int, int]:
    """Return the steps of an epoch over ``length`` images, and the images that they see."""
    batch_size = min(batch_size, length)
    return length // batch_size, length // batch_size * batch_size


def epochs_for(steps: int | None, epochs: int, steps_of_an_epoch: int) -> int:
    """Return how many epochs have at least ``steps`` steps; ``epochs`` if no number of steps is given."""
    return epochs if steps is None else -(-steps // steps_of_an_epoch)


def images_to_reach(history: Sequence[Mapping[str, float]], ap: float) -> float | None:
    """Return after how many images the AP was first reached; None if it was not.

    Interpolates linearly between evaluations, starting at 0 images and AP 0.
    """
    before = {"images": 0.0, "ap": 0.0}
    for entry in history:
        if entry["ap"] >= ap:
            share = (ap - before["ap"]) / (entry["ap"] - before["ap"]) if entry["ap"] > before["ap"] else 1.0
            return before["images"] + share * (entry["images"] - before["images"])
        before = dict(entry)
    return None


class Reached(NamedTuple):
    """The mean number of images that runs needed; a lower bound if some of them did not reach the AP."""

    images: float
    count: int
    runs: int

    @property
    def is_bound(self) -> bool:
        """Whether a run did not reach the AP; all of its images are counted then."""
        return self.count < self.runs

    def __str__(self) -> str:
        if self.count == 0:
            return "not reached"
        return f"> {self.images:,.0f} ({self.count} of {self.runs})" if self.is_bound else f"{self.images:,.0f}"


def reached(results: Sequence[Result], ap: float) -> Reached:
    """Return after how many images the runs of one variant reached an AP, on average."""
    images = [images_to_reach(result["history"], ap) for result in results]
    counted = [
        result["history"][-1]["images"] if value is None else value
        for result, value in zip(results, images, strict=True)
    ]
    return Reached(mean(counted), sum(value is not None for value in images), len(results))


def ratio(baseline: Reached, other: Reached) -> str:
    """Return the images that the baseline needed divided by those of another; a bound or a dash if unknown."""
    if other.is_bound and baseline.is_bound:
        return "-"
    sign = ">" if baseline.is_bound else "<" if other.is_bound else ""
    return f"{sign} {baseline.images / other.images:.2f}".strip()


def mean_and_deviation(values: Sequence[float]) -> str:
    """Return the mean, the standard deviation where there are several values, and how many there are."""
    deviation = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{deviation} ({len(values)})"


def by_name(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the runs of each variant, in the order of first appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["name"], []).append(result)
    return groups


def summary_rows(results: Sequence[Result], target: float, baseline: str) -> list[dict[str, str]]:
    """Return one row for each variant.

    Args:
        target: the AP whose first crossing is compared.
        baseline: the variant that the others are compared with; without its runs there is no ratio.
    """
    groups = by_name(results)
    needed_by_baseline = reached(groups[baseline], target) if baseline in groups else None
    rows = []
    for name, runs in groups.items():
        needed = reached(runs, target)
        seconds = [run["seconds"] for run in runs if not run["resumed"]]
        rows.append(
            {
                "variant": name,
                "images seen": f"{runs[0]['history'][-1]['images']:,}",
                "AP": mean_and_deviation([run["history"][-1]["ap"] for run in runs]),
                "AP50": mean_and_deviation([run["history"][-1]["ap50"] for run in runs]),
                f"images to AP {target:g}": str(needed),
                f"{baseline} needs times as many": ratio(needed_by_baseline, needed) if needed_by_baseline else "-",
                "parameters": f"{runs[0]['parameters']:,}",
                "seconds": f"{mean(seconds):.0f}" if seconds else "resumed",
            }
        )
    return rows


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of the same columns as a Markdown table."""
    lines = [rows[0].keys(), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def report(results: Sequence[Result], target: float, baseline: str, folder: Path) -> str:
    """Write ``summary.json``, ``summary.md`` and ``curves.png`` of all runs, and return the table.

    Raises:
        UsageError: the target is not an AP above 0 and at most 1.
    """
    if not 0 < target <= 1:
        raise UsageError(f"--target-ap is {target:g}; it must be above 0 and at most 1.")
    rows = summary_rows(results, target, baseline)
    machines = {json.dumps(result["machine"]) for result in results}
    table = markdown(rows)
    write_json(folder / "summary.json", {"target": target, "baseline": baseline, "rows": rows})
    notes = [f"`{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`", *sorted(machines)]
    write_text(folder / "summary.md", table + "\n" + "".join(f"- {note}\n" for note in notes))
    curves = {
        name: [[(entry["images"], entry["ap"]) for entry in run["history"]] for run in runs]
        for name, runs in by_name(results).items()
    }
    plot_bands(curves, "images seen", "AP", folder / "curves.png")
    return table


def run_command(command: Callable[[], None]) -> None:
    """Run a benchmark's command and report a mistake or a stop in one line, as the ``anchordetr`` command does."""
    try:
        command()
    except (UsageError, InputError, Stopped) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        code = 128 + error.signal_number if isinstance(error, Stopped) else 2 if isinstance(error, UsageError) else 1
        raise SystemExit(code) from None


def data_name(data: str) -> str:
    """Return the last part of a data set's path, for names of folders."""
    return Path(os.path.abspath(data)).name

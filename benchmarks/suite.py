"""All networks on several data sets: one table a data set, and one over all of them.

pip install transformers
python benchmarks/suite.py --data path/to/bccd path/to/rbc --protocol short --output runs/suite
python benchmarks/suite.py --data path/to/bccd --protocol short --models ours_with_rotary rt_detr --seeds 0
python benchmarks/suite.py --data path/to/bccd path/to/rbc --protocol long

short: 12 epochs of images with a short side of 128 pixels, three seeds, the settings of `compare_peers.py` for all.
long: `--recipe finetune` on images with a short side of 240 pixels, for the preset and for two detectors of
torchvision. They are trained for as many minutes as the preset: their epochs follow from the measured time of a step.

A run that is finished is not trained again, and one that was stopped is resumed, so that the same command continues
after any end. OUTPUT/PROTOCOL receives suite.md and suite.json, rewritten after every data set, and a folder for each
data set with its table, curves, results and runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from ablation import base_config
from compare_peers import Comparison, add_arguments, compare_networks
from peers import PEERS
from torchvision_peers import TORCHVISION_PEERS
from training_curves import Result, by_name, data_name, markdown, mean_and_deviation, run_command

from anchordetr.config import Config, merged, parse_assignments
from anchordetr.errors import UsageError
from anchordetr.files import write_json, write_text
from anchordetr.models.presets import preset, recipe

LONG_PRESET = "anchordetr_v2_small"


class Protocol(NamedTuple):
    """How networks are trained.

    Attributes:
        base: returns the settings that all networks share, for a data set. changes: of all networks.
        defaults: of the command's arguments.
    """

    base: Callable[[str], Config]
    changes: dict[str, Any]
    defaults: dict[str, Any]


PROTOCOLS = {
    "short": Protocol(
        base=lambda data: base_config(data, {}),
        changes={"train.epochs": 12},
        defaults={"models": ["ours_with_rotary", "anchordetr_v2_tiny", *PEERS, *TORCHVISION_PEERS], "seeds": [0, 1, 2]},
    ),
    "long": Protocol(
        base=lambda data: preset(LONG_PRESET),
        changes=recipe("finetune"),
        defaults={"models": [LONG_PRESET, *TORCHVISION_PEERS], "equal_time": True},
    ),
}


def suite_table(by_data: Mapping[str, list[Result]], metric: str) -> str:
    """Return a metric of the last epoch: a row for each network, a column for each data set, and their mean.

    Args:
        by_data: the results of each data set. metric: ``ap`` or ``ap50``.
    """
    runs = {data: by_name(results) for data, results in by_data.items()}
    rows = []
    for name in dict.fromkeys(name for groups in runs.values() for name in groups):
        values = {data: [run["history"][-1][metric] for run in groups.get(name, [])] for data, groups in runs.items()}
        by_data = {data: mean_and_deviation(found) if found else "-" for data, found in values.items()}
        overall = f"{mean(map(mean, values.values())):.3f}" if all(values.values()) else "-"
        rows.append({"network": name, **by_data, "mean": overall})
    return markdown(rows)


def write_suite(folder: Path, compared: Mapping[str, Comparison]) -> str:
    """Write ``suite.json`` and ``suite.md``, and return the tables over all data sets."""
    by_data = {data: found.results for data, found in compared.items()}
    summary = "".join(f"{title}\n\n{suite_table(by_data, key)}\n" for title, key in (("AP", "ap"), ("AP50", "ap50")))
    command = f"{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}"
    parts = [f"## {data}\n\n{found.table}\n{found.note}".rstrip() for data, found in compared.items()]
    write_text(folder / "suite.md", "\n\n".join([f"`{command}`", summary.rstrip(), *parts]) + "\n")
    details = {data: found._asdict() for data, found in compared.items()}
    write_json(folder / "suite.json", {"command": command, "data": details})
    return summary


def run_suite(arguments: argparse.Namespace) -> None:
    """Compare the networks on every data set, and write the tables after each."""
    names = [data_name(data) for data in arguments.data]
    if len(set(names)) < len(names):
        raise UsageError(f"Two data sets have the same folder name ({', '.join(names)}); rename one of the folders.")
    protocol, folder = PROTOCOLS[arguments.protocol], arguments.output / arguments.protocol
    changes = merged(protocol.changes, parse_assignments(arguments.set))
    compared: dict[str, Comparison] = {}
    for data, name in zip(arguments.data, names, strict=True):
        compared[name] = compare_networks(data, protocol.base(data), changes, folder / name, arguments)
        summary = write_suite(folder, compared)
    print(summary, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="folders of photographs")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="short")
    parser.add_argument("--output", type=Path, default=Path("runs/suite"))
    add_arguments(parser)
    parser.set_defaults(**PROTOCOLS[parser.parse_args().protocol].defaults)
    run_suite(parser.parse_args())


if __name__ == "__main__":
    run_command(main)

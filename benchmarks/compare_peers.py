"""The library's networks compared with other detectors: those of `transformers` and of torchvision.

pip install transformers
python benchmarks/compare_peers.py --data path/to/coco --output runs/peers
python benchmarks/compare_peers.py --data shapes --models ours detr --seeds 0 1 2 --set data.short_side=96

All get the same images in the same order, with the same backbone, sizes, optimizer, schedule and evaluation; losses
are each network's own (peers.py, torchvision_peers.py). The time and the memory of a network's training step are
measured first, in turn with those of the first network. Every run writes a JSON file, and is not trained again if it
has one; a run that was stopped is resumed. `suite.py` does this on several data sets.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, which measures memory, stays silent

import numpy as np
import torch
from ablation import VARIANTS, base_config
from peers import PEERS, PeerCriterion, build_peer
from torch import nn
from torchvision_peers import TORCHVISION_PEERS, build_torchvision_peer
from training_curves import (
    Result,
    by_name,
    data_name,
    epoch_of,
    epochs_for,
    is_started,
    markdown,
    mean_and_deviation,
    reached,
    read_history,
    report,
    run_command,
    run_once,
)

from anchordetr.config import Config, parse_assignments
from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.transforms import eval_transform
from anchordetr.device import choose_device
from anchordetr.evaluation.coco import evaluate
from anchordetr.files import write_text
from anchordetr.machine import describe_machine
from anchordetr.metrics import Metrics
from anchordetr.models.builders import build_model
from anchordetr.models.presets import PRESETS, V2_FUSION, V2_PARTS
from anchordetr.predictor import detect
from anchordetr.profiling.timing import compare
from anchordetr.training.builder import build_trainer
from anchordetr.training.run import TrainingRun
from anchordetr.training.trainer import Trainer

LOCAL_INIT: dict[str, Any] = {"model.init": "local", "model.encoder_loss": True}
BEYOND_THE_PAPER: dict[str, Any] = {**LOCAL_INIT, "model.box_refinement": True, "model.denoising_groups": 3}
WITH_ROTARY: dict[str, Any] = {**BEYOND_THE_PAPER, "model.attention": "rcda_rotary"}
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours_local_init": LOCAL_INIT,
    "ours_beyond_the_paper": BEYOND_THE_PAPER,
    "ours_with_rotary": WITH_ROTARY,
    "ours_with_rotary_fused": {**WITH_ROTARY, **V2_FUSION},
    "ours_with_boxes": V2_PARTS,
    "ours_with_boxes_fused": {**V2_PARTS, **V2_FUSION},
}
MODELS = (*OURS, *PEERS, *TORCHVISION_PEERS)
CHOICES = (*MODELS, *VARIANTS, *PRESETS)
MOST_DETECTIONS = 100  # of an image, COCO's limit
_MODELS = f"networks to train: {', '.join(CHOICES)}"
_BACKBONE = ("num_classes", "backbone", "pretrained_backbone", "backbone_weights", "freeze_batch_norm", "frozen_stages")


def settings_of(name: str, base: Config, changes: Mapping[str, Any]) -> Config:
    """Return the settings of one network: ``base`` with ``changes``, and with what the variant of this name changes.

    A preset is its own network with ``changes`` on the shared backbone, trained like the others. A peer has no changes.
    """
    shared = base.updated(changes)
    if name not in PRESETS:
        return shared.updated({**VARIANTS, **OURS}.get(name, {}))
    backbone = {key: getattr(shared.model, key) for key in _BACKBONE}
    own = shared.model_copy(update={"model": PRESETS[name].model.model_copy(update=backbone)})
    return own.updated(changes)


def build_network(name: str, config: Config) -> Any:
    """Build the library's network or a peer, with random weights from the seed."""
    torch.manual_seed(config.train.seed)
    if name in PEERS:
        return build_peer(name, config.model)
    if name in TORCHVISION_PEERS:
        return build_torchvision_peer(name, config.model, config.data.short_side)
    return build_model(config.model)


def make_trainer(
    name: str,
    config: Config,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    folder: Path,
    device: torch.device,
) -> Trainer:
    """Return the library's trainer with a network of either kind, which resumes the folder's run if there is one."""
    network = build_network(name, config).to(device)
    data, backbone = config.data, network.backbone
    transform = eval_transform(data.short_side, data.long_side, backbone.mean, backbone.std)

    def metrics(model: nn.Module, check: Callable[[int, int], None]) -> Metrics:
        return evaluate(partial(detect, model), val_set, transform, config.train.batch_size, data.workers)

    run = TrainingRun(folder, config, write_model=lambda folder, model: None)
    state = run.load_state() if is_started(folder) else None
    trainer = build_trainer(network, train_set, metrics, run, state)
    if name in (*PEERS, *TORCHVISION_PEERS):
        trainer.criterion = PeerCriterion()
    return trainer


def train_model(
    name: str,
    config: Config,
    data: str,
    sets: tuple[DetectionDataset, DetectionDataset],
    folder: Path,
    images: int,
    device: torch.device,
) -> Result:
    """Train one network, or resume its run, and return the result."""
    is_resumed = is_started(folder)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    trainer = make_trainer(name, config, *sets, folder, device)
    trainer.fit()
    machine = describe_machine(device)
    network = trainer.model
    return {
        "name": name,
        "data": data,
        "seed": config.train.seed,
        "history": read_history(trainer.progress.history, images),
        "parameters": sum(value.numel() for value in network.parameters()),
        "parameters_of_the_backbone": sum(value.numel() for value in network.backbone.parameters()),  # type: ignore
        "seconds": time.perf_counter() - start,
        "resumed": is_resumed,
        "machine": machine,
        "commit": machine["commit"],
    }


def measure_steps(
    name: str,
    reference: str,
    configs: Mapping[str, Config],
    sets: tuple[DetectionDataset, DetectionDataset],
    rounds: int,
    device: torch.device,
) -> Result:
    """Time a training step of a network and of a reference on the same batch, in turn, and measure their peak memory.

    Returns:
        The timing of the network; its ``ratio`` is the seconds of the reference divided by its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            each: make_trainer(each, configs[each], *sets, Path(folder), device)
            for each in dict.fromkeys((name, reference))
        }
        batches = next(trainers[reference].data.steps())

        def step(trainer: Trainer) -> Callable[[], object]:
            trainer.network.train()
            return lambda: trainer.train_step(batches)

        candidates = {each: step(trainer) for each, trainer in trainers.items()}
        timings = compare("training step", candidates, reference, device, rounds)
    (timing,) = (timing for timing in timings if timing.candidate == name)
    return {**vars(timing), "reference": reference, "machine": describe_machine(device)}


def networks_table(results: list[Result], timings: Mapping[str, Result], target: float) -> str:
    """Return the table of all networks: final AP, images to the target AP, parameters, a step's time and memory."""
    rows = []
    for name, runs in by_name(results).items():
        first, step = runs[0], timings[name]
        rows.append(
            {
                "network": name,
                "images seen": f"{first['history'][-1]['images']:,}",
                "AP": mean_and_deviation([run["history"][-1]["ap"] for run in runs]),
                "AP50": mean_and_deviation([run["history"][-1]["ap50"] for run in runs]),
                f"images to AP {target:g}": str(reached(runs, target)),
                "parameters": f"{first['parameters']:,}",
                "beyond the backbone": f"{first['parameters'] - first['parameters_of_the_backbone']:,}",
                "seconds a step": f"{step['seconds']:.3f}",
                "peak MiB of a step": f"{step['peak_bytes'] / 2**20:.0f}",
            }
        )
    return markdown(rows)


def detection_limit(val_set: DetectionDataset) -> str:
    """Return a sentence about images with more objects than the evaluation counts detections; empty if none has."""
    table = val_set.annotations
    objects = np.bincount(table.rows()[~table.crowd], minlength=len(table))
    if objects.max() <= MOST_DETECTIONS:
        return ""
    found = np.minimum(objects, MOST_DETECTIONS).sum() / objects.sum()
    return (
        f"Images have up to {objects.max()} objects, and the evaluation counts the {MOST_DETECTIONS} best detections "
        f"of each, COCO's limit: at most {100 * found:.0f} % of the objects can be found, which limits AP and AP50."
    )


class Comparison(NamedTuple):
    """What was measured on one data set.

    Attributes:
        results: of every run. timings: of each network's training step, by name.
        table: of all networks. note: about the limits of the evaluation; may be empty.
    """

    results: list[Result]
    timings: dict[str, Result]
    table: str
    note: str


def epochs_of_equal_time(epochs: int, timing: Result) -> int:
    """Return the epochs that take a network as long as ``epochs`` take the reference; at least one."""
    return max(1, round(epochs * timing["ratio"]))


def compare_networks(
    data: str, base: Config, changes: Mapping[str, Any], folder: Path, arguments: argparse.Namespace
) -> Comparison:
    """Train every network with every seed on one data set, and report on all of them.

    Args:
        data: the data set. base, changes: see :func:`settings_of`. folder: receives the results.
        arguments: those of :func:`add_arguments`; with ``equal_time`` every network is trained for as many minutes as
            the first one.
    """
    device = choose_device(arguments.device)
    sets = (open_dataset(data, "train", base.data.layout), open_dataset(data, "val", base.data.layout))
    shared = base.updated(changes).train
    steps, images = epoch_of(len(sets[0]), shared.batch_size)
    epochs = epochs_for(arguments.steps, arguments.epochs or shared.epochs, steps)
    changes = {**changes, "model.num_classes": len(sets[0].class_names), "train.epochs": epochs}
    configs = {name: settings_of(name, base, changes) for name in arguments.models}
    reference, timings = arguments.models[0], {}
    for name, config in configs.items():
        measure = partial(measure_steps, name, reference, configs, sets, arguments.rounds, device)
        timings[name] = run_once(folder / "results" / f"step_{name}_beside_{reference}.json", config, measure)
        if arguments.equal_time:
            configs[name] = config.updated({"train.epochs": epochs_of_equal_time(epochs, timings[name])})
    results: list[Result] = []
    for seed in arguments.seeds:
        for name, config in configs.items():
            seeded = config.updated({"train.seed": seed})
            run = folder / "runs" / f"{name}_seed{seed}"
            train = partial(train_model, name, seeded, data, sets, run, images, device)
            results.append(run_once(folder / "results" / f"{run.name}.json", seeded, train))
            report(results, arguments.target_ap, reference, folder)
    table, note = networks_table(results, timings, arguments.target_ap), detection_limit(sets[1])
    write_text(folder / "networks.md", f"{table}\n{note}\n" if note else table)
    print(f"{data}\n\n{table}\n{note}\n{json.dumps(describe_machine(device))}", flush=True)
    return Comparison(results, timings, table, note)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `compare_peers.py` and `suite.py` share."""
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=CHOICES, metavar="MODEL", help=_MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--steps", type=int, help="optimizer steps, instead of --epochs; rounded up to whole epochs")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the training step is measured")
    parser.add_argument("--target-ap", type=float, default=0.1, help="the AP whose first crossing is compared")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to all networks")
    parser.add_argument("--equal-time", action="store_true", help="as many minutes for all as for the first network")
    parser.add_argument("--device", default="auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of photographs, or 'shapes'")
    parser.add_argument("--output", type=Path, default=Path("runs/peers"))
    add_arguments(parser)
    arguments = parser.parse_args()
    folder = arguments.output / data_name(arguments.data)
    changes = parse_assignments(arguments.set)
    compare_networks(arguments.data, base_config(arguments.data, {}), changes, folder, arguments)


if __name__ == "__main__":
    run_command(main)

"""DETR, Conditional DETR, Deformable DETR and RT-DETR of `transformers` compared with the library's network.

pip install transformers
python benchmarks/compare_peers.py --data path/to/coco --output runs/peers
python benchmarks/compare_peers.py --data shapes --models ours detr --seeds 0 1 2 --set data.short_side=96

All get the same images in the same order, with the same backbone, sizes, optimizer, schedule and evaluation; losses
are each network's own (peers.py). The time and the memory of a training step are measured first, in turn in one
process. Every run writes a JSON file, and is not trained again if it has one; a run that was stopped is resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, which measures memory, stays silent

import torch
from ablation import base_config
from peers import PEERS, PeerCriterion, build_peer
from torch import nn
from training_curves import (
    Result,
    by_name,
    data_name,
    epoch_of,
    epochs_for,
    is_started,
    markdown,
    mean_and_deviation,
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
from anchordetr.predictor import detect
from anchordetr.profiling.timing import compare
from anchordetr.training.builder import build_trainer
from anchordetr.training.run import TrainingRun
from anchordetr.training.trainer import Trainer

LOCAL_INIT: dict[str, Any] = {"model.init": "local", "model.encoder_loss": True}
BEYOND_THE_PAPER: dict[str, Any] = {**LOCAL_INIT, "model.box_refinement": True, "model.denoising_groups": 3}
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours_local_init": LOCAL_INIT,
    "ours_beyond_the_paper": BEYOND_THE_PAPER,
    "ours_with_rotary": {**BEYOND_THE_PAPER, "model.attention": "rcda_rotary"},
}
MODELS = (*OURS, *PEERS)


def build_network(name: str, config: Config) -> Any:
    """Build the library's network or a peer, with random weights from the seed."""
    torch.manual_seed(config.train.seed)
    changed = config.updated(OURS.get(name, {})).model
    return build_model(changed) if name in OURS else build_peer(name, changed)


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
    if name in PEERS:
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
        "changes": OURS.get(name, {}),
        "history": read_history(trainer.progress.history, images),
        "parameters": sum(value.numel() for value in network.parameters()),
        "parameters_of_the_backbone": sum(value.numel() for value in network.backbone.parameters()),  # type: ignore
        "seconds": time.perf_counter() - start,
        "resumed": is_resumed,
        "machine": machine,
        "commit": machine["commit"],
    }


def measure_steps(
    names: list[str],
    config: Config,
    sets: tuple[DetectionDataset, DetectionDataset],
    rounds: int,
    device: torch.device,
) -> Result:
    """Time a training step of every network on the same batch, in turn, and measure its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(name, config, *sets, Path(folder), device) for name in names}
        batches = next(trainers[names[0]].data.steps())

        def step(trainer: Trainer) -> Callable[[], object]:
            trainer.network.train()
            return lambda: trainer.train_step(batches)

        candidates = {name: step(trainer) for name, trainer in trainers.items()}
        timings = compare("training step", candidates, names[0], device, rounds)
    return {"timings": [vars(timing) for timing in timings], "machine": describe_machine(device)}


def peers_table(results: list[Result], timings: list[Result]) -> str:
    """Return the table of all networks: final AP, parameters, a step's time and memory."""
    steps = {timing["candidate"]: timing for timing in timings}
    rows = []
    for name, runs in by_name(results).items():
        step = steps[name]
        rows.append(
            {
                "network": name,
                "images seen": f"{runs[0]['history'][-1]['images']:,}",
                "AP": mean_and_deviation([run["history"][-1]["ap"] for run in runs]),
                "AP50": mean_and_deviation([run["history"][-1]["ap50"] for run in runs]),
                "parameters": f"{runs[0]['parameters']:,}",
                "beyond the backbone": f"{runs[0]['parameters'] - runs[0]['parameters_of_the_backbone']:,}",
                "seconds a step": f"{step['seconds']:.3f}",
                "peak MiB of a step": f"{step['peak_bytes'] / 2**20:.0f}",
            }
        )
    return markdown(rows)


def compare_networks(data: str, arguments: argparse.Namespace) -> None:
    """Train every network with every seed on one data set, and report on all of them."""
    device = choose_device(arguments.device)
    config = base_config(data, parse_assignments(arguments.set))
    sets = (open_dataset(data, "train", config.data.layout), open_dataset(data, "val", config.data.layout))
    steps, images = epoch_of(len(sets[0]), config.train.batch_size)
    epochs = epochs_for(arguments.steps, arguments.epochs or config.train.epochs, steps)
    config = config.updated({"model.num_classes": len(sets[0].class_names), "train.epochs": epochs})
    folder = arguments.output / data_name(data)
    measure = partial(measure_steps, arguments.models, config, sets, arguments.rounds, device)
    measured = run_once(folder / "results" / f"steps_{'_'.join(arguments.models)}.json", config, measure)
    results = []
    for seed in arguments.seeds:
        seeded = config.updated({"train.seed": seed})
        for name in arguments.models:
            run = folder / "runs" / f"{name}_seed{seed}"
            train = partial(train_model, name, seeded, data, sets, run, images, device)
            results.append(run_once(folder / "results" / f"{run.name}.json", seeded, train))
            report(results, arguments.target_ap, "detr", folder)
    table = peers_table(results, measured["timings"])
    write_text(folder / "peers.md", table)
    print(f"{data}\n\n{table}\n{json.dumps(measured['machine'])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of photographs, or 'shapes'")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--steps", type=int, help="optimizer steps, instead of --epochs; rounded up to whole epochs")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the training step is measured")
    parser.add_argument("--target-ap", type=float, default=0.1, help="the AP whose first crossing is compared")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to all networks")
    parser.add_argument("--output", type=Path, default=Path("runs/peers"))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    compare_networks(arguments.data, arguments)


if __name__ == "__main__":
    run_command(main)

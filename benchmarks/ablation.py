"""AP by images seen for networks that differ in one part: how fast each of them learns.

python benchmarks/ablation.py --data shapes --variants headline --seeds 0 1 2 --output runs/ablation
python benchmarks/ablation.py --data path/to/coco --variants ladder patterns --output runs/ablation
python benchmarks/ablation.py --data path/to/coco --set model.backbone_weights=tf_efficientnet_lite0.safetensors

Every run writes a JSON file to OUTPUT/DATA/results; a run that has one is not trained again, and a run that was
stopped is resumed. A table (summary.md) and curves (curves.png) are written each time.

Networks are initialised and trained like the paper's, without `model.init=local` and `model.encoder_loss`. On
photographs the backbone has ImageNet weights, which timm fetches at first use unless `model.backbone_weights` names a
file.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from training_curves import (
    Result,
    data_name,
    epoch_of,
    epochs_for,
    is_started,
    read_history,
    report,
    run_command,
    run_once,
)

from anchordetr import Detector
from anchordetr.config import Config, parse_assignments
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.device import choose_device
from anchordetr.errors import UsageError, closest_match
from anchordetr.machine import describe_machine
from anchordetr.models.presets import preset

BASE: dict[str, Any] = {
    "model.init": "paper",
    "model.encoder_loss": False,
    "model.num_anchors": 36,
    "model.num_patterns": 3,
    "train.save_every": 100,
}
PHOTOGRAPHS: dict[str, Any] = {
    "model.backbone": "tf_efficientnet_lite0",
    "model.pretrained_backbone": True,
    "model.freeze_batch_norm": True,
    "model.frozen_stages": 1,
    "model.features": "c3",
    "data.short_side": 128,
    "data.long_side": 213,
    "data.train_short_sides": [128],
    "train.eval_every": 2,
    "train.batch_size": 8,
    "train.lr_batch_size": 8,
    "train.lr": 1e-3,
    "train.backbone_lr": 5e-4,
    "loss.class_weight": 2.0,
}
EPOCHS = {"shapes": 6, "photographs": 60}

DETR_QUERIES = {"model.queries": "embeddings", "model.num_anchors": 108, "model.num_patterns": 0}
SUM = {
    "model.init": "local",
    "model.encoder_loss": True,
    "model.denoising_groups": 3,
    "model.box_refinement": True,
    "model.features": "c3_c4_c5",
    "model.fusion_level": "c3",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "anchor_detr": {},
    "detr_queries": {**DETR_QUERIES, "model.attention": "standard"},
    "anchors": {"model.num_anchors": 108, "model.num_patterns": 0, "model.attention": "standard"},
    "anchors_patterns": {"model.attention": "standard"},
    "detr_queries_rcda": DETR_QUERIES,
    "1_pattern": {"model.num_anchors": 108, "model.num_patterns": 1},
    "9_patterns": {"model.num_anchors": 12, "model.num_patterns": 9},
    "grid": {"model.anchors": "grid"},
    "separate_encoders": {"model.share_position_encoder": False},
    "sine_alone": {"model.position_encoder": "sine"},
    "local_init": {"model.init": "local"},
    "encoder_loss": {"model.encoder_loss": True},
    "local_init_encoder_loss": {"model.init": "local", "model.encoder_loss": True},
    "denoising": {"model.denoising_groups": 3},
    "query_groups": {"model.query_groups": 3},
    "box_refinement": {"model.box_refinement": True},
    "varifocal": {"loss.classification": "varifocal"},
    "rotary": {"model.attention": "rcda_rotary"},
    "feature_fusion": {"model.features": "c3_c4_c5", "model.fusion_level": "c3"},
    "anchors_from_data": {"train.anchors_from_data": True},
    "sum": SUM,
    "sum_without_local_init": {**SUM, "model.init": "paper"},
    "sum_with_groups": {**SUM, "model.query_groups": 3},
    "sum_with_varifocal": {**SUM, "loss.classification": "varifocal"},
    "sum_with_rotary": {**SUM, "model.attention": "rcda_rotary"},
    "sum_without_encoder_loss": {**SUM, "model.encoder_loss": False},
    "sum_without_box_refinement": {**SUM, "model.box_refinement": False},
    "sum_on_one_map": {**SUM, "model.features": "c3", "model.fusion_level": None},
}
GROUPS: dict[str, list[str]] = {
    "headline": ["detr_queries", "anchor_detr"],
    "ladder": ["detr_queries", "anchors", "anchors_patterns", "anchor_detr"],
    "patterns": ["1_pattern", "anchor_detr", "9_patterns"],
    "parts": ["anchor_detr", "grid", "anchors_patterns", "separate_encoders", "sine_alone"],
    "beyond_the_paper": [
        "anchor_detr",
        "local_init",
        "encoder_loss",
        "local_init_encoder_loss",
        "denoising",
        "query_groups",
        "box_refinement",
        "varifocal",
        "rotary",
        "feature_fusion",
        "anchors_from_data",
        "sum",
    ],
    "sums": [
        "anchor_detr",
        "sum",
        "sum_without_local_init",
        "sum_with_groups",
        "sum_with_varifocal",
        "sum_with_rotary",
        "sum_without_encoder_loss",
        "sum_without_box_refinement",
        "sum_on_one_map",
    ],
    "all": list(VARIANTS),
}


def chosen_variants(names: list[str]) -> list[str]:
    """Return the variants named directly or by a group, each once.

    Raises:
        UsageError: there is no such variant or group.
    """
    unknown = [name for name in names if name not in VARIANTS and name not in GROUPS]
    if unknown:
        raise UsageError(f"Unknown variant '{unknown[0]}'.{closest_match(unknown[0], [*VARIANTS, *GROUPS])}")
    return list(dict.fromkeys(variant for name in names for variant in GROUPS.get(name, [name])))


def base_config(data: str, changes: dict[str, Any]) -> Config:
    """Return the configuration that all networks on a data set share."""
    of_data = {} if data == "shapes" else PHOTOGRAPHS
    epochs = EPOCHS["shapes" if data == "shapes" else "photographs"]
    return preset("anchordetr_tiny").updated({**BASE, **of_data, "train.epochs": epochs}).updated(changes)


def train_variant(name: str, config: Config, data: str, folder: Path, device: str, images: int) -> Result:
    """Train one network, or resume its run, and return the result."""
    detector = Detector(config, device=device)
    is_resumed = is_started(folder)
    start = time.perf_counter()
    detector.train(data, folder, resume=is_resumed)
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    machine = describe_machine(choose_device(device))
    return {
        "name": name,
        "data": data,
        "seed": config.train.seed,
        "changes": VARIANTS[name],
        "history": read_history(entries, images),
        "parameters": sum(value.numel() for value in detector.model.parameters()),
        "seconds": time.perf_counter() - start,
        "resumed": is_resumed,
        "machine": machine,
        "commit": machine["commit"],
    }


def ablate(data: str, arguments: argparse.Namespace) -> None:
    """Train every variant with every seed on one data set, and report on all of them."""
    base = base_config(data, parse_assignments(arguments.set) | {"train.precision": arguments.precision})
    configs = {name: base.updated(VARIANTS[name]) for name in chosen_variants(arguments.variants)}
    length = len(open_dataset(data, "train", base.data.layout))
    folder = arguments.output / data_name(data)
    results = []
    for seed in arguments.seeds:
        for name, config in configs.items():
            steps, images = epoch_of(length, config.train.batch_size)
            epochs = epochs_for(arguments.steps, arguments.epochs or config.train.epochs, steps)
            settings = config.updated({"train.seed": seed, "train.epochs": epochs})
            run = folder / "runs" / f"{name}_seed{seed}"
            train = partial(train_variant, name, settings, data, run, arguments.device, images)
            results.append(run_once(folder / "results" / f"{run.name}.json", settings, train))
            table = report(results, arguments.target_ap, "detr_queries", folder)
    print(f"{data}\n\n{table}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["shapes"], help="folders of photographs, or 'shapes'")
    parser.add_argument("--variants", nargs="+", default=["headline"], help=f"any of {[*GROUPS, *VARIANTS]}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help=f"default: {EPOCHS}")
    parser.add_argument("--steps", type=int, help="optimizer steps, instead of --epochs; rounded up to whole epochs")
    parser.add_argument("--target-ap", type=float, default=0.1, help="the AP whose first crossing is compared")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to all networks")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    arguments = parser.parse_args()
    for data in arguments.data:
        ablate(data, arguments)


if __name__ == "__main__":
    run_command(main)

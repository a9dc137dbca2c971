"""Speed of the library relative to the original's order of operations, measured in turn in one process.

python benchmarks/against_the_original.py inference    # an image of 800x1088, about two minutes on 2 cores
python benchmarks/against_the_original.py training     # a step on two images of 512x640
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # keeps the profiler, which measures memory, silent

import original_criterion
import original_order
import torch
from torch import nn

from anchordetr import AnchorDETR, ImageBatch, Target, create_model
from anchordetr.criterion import build_criterion
from anchordetr.layers.recompute import recomputing
from anchordetr.machine import describe_machine
from anchordetr.profiling.timing import compare
from anchordetr.training.optim import build_optimizer
from anchordetr.weights.official_names import from_original

CLASSES = 91
CPU = torch.device("cpu")


def build() -> tuple[original_order.AnchorDETR, AnchorDETR]:
    """Return the baseline and the library's network, with the same random weights."""
    torch.manual_seed(0)
    baseline = original_order.AnchorDETR(CLASSES)
    model = create_model("anchordetr_r50_dc5", CLASSES, pretrained_backbone=False)
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(from_original(baseline.state_dict()) | counters)
    return baseline, model


def inference(height: int, width: int) -> dict[str, Callable[[], object]]:
    """Return candidates that run on one image.

    Baseline and network as built predict from all decoder layers, optimized networks from the last.
    """
    baseline, model = build()
    pixels, padding = torch.randn(1, 3, height, width), torch.zeros(1, height, width, dtype=torch.bool)
    images = ImageBatch(pixels, ((height, width),))
    networks = {
        "as built": model.eval(),
        "optimized float32": model.optimize_for_inference(),
        "optimized bfloat16": model.optimize_for_inference(torch.bfloat16),
    }
    baseline.eval()

    def without_gradient(network: nn.Module, *inputs: object) -> Callable[[], object]:
        return torch.inference_mode()(lambda: network(*inputs))

    candidates = {name: without_gradient(network, images) for name, network in networks.items()}
    return {"as the original": without_gradient(baseline, pixels, padding), **candidates}


def training(height: int, width: int, objects: int) -> dict[str, Callable[[], object]]:
    """Return candidates that do one step on two images: forward, losses, backward, optimizer."""
    baseline, model = build()
    pixels, padding = torch.randn(2, 3, height, width), torch.zeros(2, height, width, dtype=torch.bool)
    images = ImageBatch(pixels, ((height, width),) * 2)
    targets = [Target(torch.rand(objects, 4) / 4 + 0.25, torch.randint(CLASSES, (objects,))) for _ in range(2)]
    parameters = [value for value in baseline.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, weight_decay=1e-4)
    step = original_criterion.training_step(baseline.train(), original_criterion.Criterion(CLASSES), optimizer)
    criterion = build_criterion(CLASSES)
    fused = build_optimizer(model.train(), lr=1e-6, backbone_lr=1e-6, weight_decay=1e-4)

    def ours(recomputed: list[nn.Module], in_bfloat16: bool = False) -> float:
        with recomputing(recomputed):
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
                predictions = model(images)
            total = criterion(predictions, targets).total
            fused.zero_grad(set_to_none=True)
            total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        fused.step()
        return total.item()

    return {
        "as the original": lambda: step(pixels, padding, [vars(target) for target in targets]),
        "as built": lambda: ours([]),
        "gradient checkpointing": lambda: ours([*model.encoder.layers, *model.decoder.layers]),
        "bfloat16": lambda: ours([], in_bfloat16=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("inference", "training"))
    parser.add_argument("--size", help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--objects", type=int, default=20, help="objects per image, in training")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    size = arguments.size or {"inference": "800x1088", "training": "512x640"}[arguments.what]
    height, width = map(int, size.split("x"))
    is_training = arguments.what == "training"
    candidates = training(height, width, arguments.objects) if is_training else inference(height, width)
    print(f"{arguments.what} at {size}, {describe_machine(CPU)}")
    for timing in compare(arguments.what, candidates, "as the original", CPU, arguments.rounds):
        peak = timing.peak_bytes / 2**20
        print(
            f"{timing.candidate:24s} {timing.seconds:7.3f} s   {timing.ratio:5.2f} times as fast   peak {peak:6.0f} MiB"
        )


if __name__ == "__main__":
    main()

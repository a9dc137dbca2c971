"""Speed of whole networks: inference as built and optimized, training steps, and the matching inside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from anchordetr.config import Config
from anchordetr.criterion import build_criterion
from anchordetr.device import DTYPES
from anchordetr.layers.recompute import recomputing
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.profiling.timing import Timing, compare
from anchordetr.seeding import seeded
from anchordetr.types import ImageBatch, Target

_BASELINE = "as built"


def random_images(count: int, height: int, width: int, device: torch.device) -> ImageBatch:
    """Return ``count`` images of noise, all of one size in pixels."""
    return ImageBatch(torch.randn(count, 3, height, width, device=device), ((height, width),) * count)


def benchmark_inference(
    config: Config,
    images: ImageBatch,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    rounds: int = 5,
    compiled: bool = False,
) -> list[Timing]:
    """Compare a network as built with :meth:`AnchorDETR.optimize_for_inference` in several dtypes.

    Args:
        config: of the network, which gets random weights.
        images: run through the network as one batch, on their device.
        dtypes: names from :data:`~anchordetr.device.DTYPES`.
        rounds: how often each candidate runs.
        compiled: run each optimized network through ``torch.compile`` too.
    """
    device = images.pixels.device
    model = _random_model(config, device).eval()
    networks: dict[str, nn.Module] = {_BASELINE: model}
    networks |= {f"optimized {name}": model.optimize_for_inference(DTYPES[name]) for name in dtypes}
    if compiled:
        networks |= {f"compiled {name}": _compile(networks[f"optimized {name}"]) for name in dtypes}
    candidates = {name: _prediction(network, images) for name, network in networks.items()}
    return compare("inference", candidates, _BASELINE, device, rounds)


def benchmark_training(config: Config, images: ImageBatch, objects: int = 20, rounds: int = 5) -> list[Timing]:
    """Compare training steps: as built, with gradient checkpointing, in bfloat16, and the matching alone.

    A step is forward, losses, backward and optimizer. The ratio of the matching is the number of matchings
    that take as long as a step.

    Args:
        config: of the network, which gets random weights.
        images: the batch of each step, on its device.
        objects: number of objects in each image.
        rounds: how often each candidate runs.
    """
    device = images.pixels.device
    model = _random_model(config, device).train()
    targets = _random_targets(len(images), objects, config.model.num_classes, device)
    criterion = build_criterion(config.model.num_classes, config.loss)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-6, fused=True)

    def step(in_bfloat16: bool = False, recomputed: Sequence[nn.Module] = ()) -> Callable[[], object]:
        def run() -> None:
            with recomputing(recomputed):
                with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
                    predictions = model(images, targets)
                optimizer.zero_grad(set_to_none=True)
                criterion(predictions, targets).total.backward()
            nn.utils.clip_grad_norm_(weights, config.train.clip_max_norm)
            optimizer.step()

        return run

    with torch.no_grad():
        predictions = model(images, targets)
    candidates = {
        _BASELINE: step(),
        "gradient checkpointing": step(recomputed=model.layers),
        "bfloat16": step(in_bfloat16=True),
        "matching alone": lambda: criterion.matcher(predictions, targets),
    }
    return compare("training step", candidates, _BASELINE, device, rounds)


def _random_targets(images: int, objects: int, num_classes: int, device: torch.device) -> list[Target]:
    boxes = torch.rand(images, objects, 4, device=device) / 4 + 0.25
    labels = torch.randint(num_classes, (images, objects), device=device)
    return [Target(*pair) for pair in zip(boxes, labels, strict=True)]


def _compile(network: nn.Module) -> nn.Module:
    compiled: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return compiled


def _random_model(config: Config, device: torch.device) -> AnchorDETR:
    with seeded(0):
        return build_model(config.model.without_pretraining()).to(device)


def _prediction(model: nn.Module, images: ImageBatch) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return model(images)

    return run

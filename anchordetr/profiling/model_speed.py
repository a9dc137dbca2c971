"""Speed of whole networks: prediction as built and prepared, training steps, and the matching inside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from anchordetr.config import Config
from anchordetr.criterion import build_criterion
from anchordetr.layers.recompute import recomputing
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.profiling.timing import DTYPES, Timing, hold
from anchordetr.types import ImageBatch, Target


def benchmark_inference(
    config: Config,
    height: int,
    width: int,
    device: torch.device,
    batch_size: int = 1,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    rounds: int = 5,
    compiled: bool = False,
) -> list[Timing]:
    """Compare a network as built with :meth:`AnchorDETR.optimize_for_inference` in several dtypes.

    Args:
        config: of the network, which starts from random weights.
        height, width: of the images in pixels.
        dtypes: names from ``anchordetr.profiling.timing.DTYPES``.
        rounds: how often each rival runs.
        compiled: run each prepared network through ``torch.compile`` too.
    """
    model = _random_model(config, device).eval()
    images = _images(batch_size, height, width, device)
    rivals: dict[str, nn.Module] = {"as built": model}
    rivals |= {f"optimized {name}": model.optimize_for_inference(DTYPES[name]) for name in dtypes}
    if compiled:
        rivals |= {f"compiled {name}": _compile(rivals[f"optimized {name}"]) for name in dtypes}
    runs = {name: _prediction(rival, images) for name, rival in rivals.items()}
    return hold("inference", runs, "as built", device, rounds)


def benchmark_training(
    config: Config,
    height: int,
    width: int,
    device: torch.device,
    batch_size: int = 2,
    objects: int = 20,
    rounds: int = 5,
) -> list[Timing]:
    """Compare training steps: as built, with gradient checkpointing, in bfloat16; beside them the matching alone.

    A step is forward, losses, backward and optimizer. The matching's ratio says how many matchings take a step's time.

    Args:
        config: of the network, which starts from random weights.
        objects: in each image.
    """
    model = _random_model(config, device).train()
    images = _images(batch_size, height, width, device)
    boxes = torch.rand(batch_size, objects, 4, device=device) / 4 + 0.25
    labels = torch.randint(config.model.num_classes, (batch_size, objects), device=device)
    targets = [Target(*pair) for pair in zip(boxes, labels, strict=True)]
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
            nn.utils.clip_grad_norm_(weights, config.train.clip_norm)
            optimizer.step()

        return run

    with torch.no_grad():
        answers = model(images, targets)
    runs = {
        "as built": step(),
        "gradient checkpointing": step(recomputed=model.layers),
        "bfloat16": step(in_bfloat16=True),
        "matching alone": lambda: criterion.matcher(answers, targets),
    }
    return hold("training step", runs, "as built", device, rounds)


def _compile(network: nn.Module) -> nn.Module:
    compiled: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return compiled


def _random_model(config: Config, device: torch.device) -> AnchorDETR:
    torch.manual_seed(0)
    return build_model(config.model.without_pretraining()).to(device)


def _images(count: int, height: int, width: int, device: torch.device) -> ImageBatch:
    return ImageBatch(torch.randn(count, 3, height, width, device=device), ((height, width),) * count)


def _prediction(model: nn.Module, images: ImageBatch) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return model(images)

    return run

"""Memory of a whole network by its parts, and the largest images and batches that fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.hooks import RemovableHandle

from anchordetr.config import Config
from anchordetr.criterion import build_criterion
from anchordetr.errors import UsageError
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.profiling.peak_memory import Enter, StageMemory, stage_memory
from anchordetr.types import ImageBatch, Predictions, Target

_OBJECTS = 10
_PROBE_SIDES = (384, 512, 640)
_PIXEL_UNIT = 1e5
_SIDE_STEP = 32
_LARGEST_SIDE = 8192
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True)
class ModelMemory:
    """Memory of one training step or one prediction in float32, in bytes.

    Attributes:
        weights_bytes: parameters and buffers. moments_bytes: the optimizer's moments.
        stages: memory beyond these, held after each part and at its peak, in the order of the step.
    """

    weights_bytes: int
    moments_bytes: int
    stages: dict[str, StageMemory]

    @property
    def kept_bytes(self) -> int:
        """Bytes of weights and moments, which stay from step to step."""
        return self.weights_bytes + self.moments_bytes

    @property
    def peak_bytes(self) -> int:
        """Peak of the whole step."""
        return self.kept_bytes + max(stage.peak for stage in self.stages.values())


@dataclass(frozen=True)
class Fit:
    """The largest image for a batch size; ``height`` and ``width`` are 0 if not even a small one fits."""

    mode: str
    batch_size: int
    height: int
    width: int


def profile_model(
    config: Config, height: int, width: int, batch_size: int, device: torch.device
) -> dict[str, ModelMemory]:
    """Measure one prediction and one training step of a new network.

    Args:
        config: of the network, which gets random weights.
        height, width: of all images in pixels; each has ten objects.
    """
    model = build_model(config.model.without_pretraining()).to(device)
    images = ImageBatch(torch.randn(batch_size, 3, height, width, device=device), ((height, width),) * batch_size)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], fused=True)
    step = _training_step(model, config, optimizer, images)
    weights = _bytes([*model.parameters(), *model.buffers()])
    inference = stage_memory(_prediction(model, images), device)
    step(lambda stage: None)  # makes the moments
    moments = _bytes([value for state in optimizer.state.values() for value in state.values()])
    training = stage_memory(step, device)
    return {
        "inference": ModelMemory(weights, 0, inference),
        "training": ModelMemory(weights, moments, training),
    }


def _bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _prediction(model: AnchorDETR, images: ImageBatch) -> Callable[[Enter], object]:
    def run(enter: Enter) -> None:
        model.eval()
        with torch.no_grad():
            _forward(model, images, None, enter)

    return run


def _training_step(
    model: AnchorDETR, config: Config, optimizer: torch.optim.Optimizer, images: ImageBatch
) -> Callable[[Enter], object]:
    criterion = build_criterion(config.model.num_classes, config.loss)
    device = images.pixels.device
    boxes = torch.rand(_OBJECTS, 4, device=device) / 4 + 0.25
    target = Target(boxes, torch.zeros(_OBJECTS, dtype=torch.int64, device=device))
    targets = [target] * len(images)

    def run(enter: Enter) -> None:
        model.train()
        predictions = _forward(model, images, targets, enter)
        enter("loss")
        total = criterion(predictions, targets).total
        enter("backward")
        total.backward()
        enter("optimizer")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def _forward(model: AnchorDETR, images: ImageBatch, targets: Sequence[Target] | None, enter: Enter) -> Predictions:
    """Run the network; hooks mark where encoder and decoder begin, at their first call if there are several."""
    parts = {"encoder": model.encoder, "decoder": model.decoder}
    handles: dict[str, RemovableHandle] = {}

    def begin(name: str) -> None:
        handles[name].remove()
        enter(name)

    for name, part in parts.items():
        handles[name] = part.register_forward_pre_hook(lambda *_, name=name: begin(name))
    enter("backbone")
    predictions: Predictions = model(images, targets)
    return predictions


def parse_memory(text: str) -> int:
    """Read a size such as ``24GB``, ``24GiB`` or ``900M`` as bytes; units are powers of 1024.

    Raises:
        UsageError: the text is not such a size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if match is None:
        raise UsageError(f"'{text}' is not a memory size; write it as 24GB or 900MB.")
    return int(float(match[1]) * 1024 ** _UNITS[match[2]])


def largest_images(
    config: Config, height: int, width: int, budget: int, device: torch.device, batch_sizes: Sequence[int]
) -> list[Fit]:
    """Return the largest images of the given shape that fit into ``budget`` bytes.

    The stages of small images are measured and extrapolated: with RCDA their peaks grow with the number of pixels of
    the batch, with other attentions also with its square.
    """
    profiles = [profile_model(config, side, side, 1, device) for side in _PROBE_SIDES]
    powers = 1 if config.model.attention in ("rcda", "rcda_rotary") else 2
    fits = []
    for mode in ("inference", "training"):
        kept = profiles[0][mode].kept_bytes
        curves = [
            _polynomial([profile[mode].stages[stage].peak for profile in profiles], powers)
            for stage in profiles[0][mode].stages
        ]
        for batch_size in batch_sizes:
            side = _largest_short_side(curves, budget - kept, min(height, width), max(height, width), batch_size)
            scale = side / min(height, width)
            fits.append(Fit(mode, batch_size, math.floor(height * scale), math.floor(width * scale)))
    return fits


def _polynomial(peaks: Sequence[int], powers: int) -> list[float]:
    """Fit the peaks of the probes by least squares in powers of their pixels; the constant comes first."""
    pixels = torch.tensor([float(side * side) for side in _PROBE_SIDES], dtype=torch.float64)
    columns = torch.stack([(pixels / _PIXEL_UNIT) ** power for power in range(powers + 1)], dim=1)
    values = torch.tensor(peaks, dtype=torch.float64).unsqueeze(1)
    solution: list[float] = torch.linalg.lstsq(columns, values).solution.squeeze(1).tolist()
    return solution


def _largest_short_side(curves: Sequence[Sequence[float]], budget: int, short: int, long: int, batch_size: int) -> int:
    """Largest short side in steps of 32 pixels with which every stage fits, 0 if none does."""
    best = 0
    for side in range(_SIDE_STEP, _LARGEST_SIDE + 1, _SIDE_STEP):
        pixels = side * side * long / short / _PIXEL_UNIT
        for fixed, *growth in curves:
            if fixed + batch_size * sum(rate * pixels ** (power + 1) for power, rate in enumerate(growth)) > budget:
                return best
        best = side
    return best

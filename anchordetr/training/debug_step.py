"""Saves a training step whose loss or gradient was not finite, and runs it again to find the faulty module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anchordetr.config import Config, parse_config, upgrade
from anchordetr.criterion import build_criterion
from anchordetr.data.loader import TrainBatch
from anchordetr.errors import InputError, reason
from anchordetr.files import write_atomically
from anchordetr.finite import is_finite, non_finite
from anchordetr.models.builders import build_model
from anchordetr.seeding import seeded
from anchordetr.types import ImageBatch, Target


def keep_batches(file: Path, batches: Sequence[TrainBatch], model: nn.Module, config: Config) -> None:
    """Write the batches of a step, the weights before it and the configuration."""
    content = {
        "config": config.model_dump(mode="json"),
        "model": model.state_dict(),
        "batches": [
            {
                "pixels": batch.images.pixels.cpu(),
                "sizes": [list(size) for size in batch.images.sizes],
                "boxes": [target.boxes.cpu() for target in batch.targets],
                "labels": [target.labels.cpu() for target in batch.targets],
                "image_ids": list(batch.image_ids),
            }
            for batch in batches
        ],
    }
    write_atomically(file, lambda temporary: torch.save(content, temporary))


@seeded(0)
def debug_step(file: Path) -> list[dict[str, Any]]:
    """Run a saved step again, in float32 on the CPU, and return what is not finite.

    Returns:
        For each batch: ``image_ids``, ``losses``, the first ``module`` whose output is not finite (None if there is
        none), the ``parameters`` and the ``gradients`` that are not.

    Raises:
        InputError: the file is damaged, is not a saved step, or does not fit this version.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or not content.keys() >= {"config", "model", "batches"}:
            raise ValueError("it holds other things")
        config, batches = parse_config(upgrade(content["config"])), content["batches"]
    except Exception as error:
        raise InputError(
            f"{file} is not a saved training step: {reason(error)}. Give the bad_step.pt of a run."
        ) from error
    model = build_model(config.model.without_pretraining())
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        raise InputError(
            f"The weights in {file} do not fit the network of its configuration; run it with the version of "
            f"anchordetr that wrote it: {error}"
        ) from error
    return [_run_batch(model, config, batch) for batch in batches]


def _run_batch(model: nn.Module, config: Config, batch: dict[str, Any]) -> dict[str, Any]:
    seen: list[str] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: _note(seen, name, output))
        for name, module in model.named_modules()
        if name
    ]
    model.train()  # with hooks in place a backbone runs module by module
    model.zero_grad(set_to_none=True)
    images = ImageBatch(batch["pixels"], tuple((height, width) for height, width in batch["sizes"]))
    targets = [Target(boxes, labels) for boxes, labels in zip(batch["boxes"], batch["labels"], strict=True)]
    losses = build_criterion(config.model.num_classes, config.loss)(model(images, targets), targets)
    losses.total.backward()
    for hook in hooks:
        hook.remove()
    parameters = dict(model.named_parameters())
    return {
        "image_ids": batch["image_ids"],
        "losses": {name: str(float(value.detach())) for name, value in {**losses.terms, "total": losses.total}.items()},
        "module": seen[0] if seen else None,
        "parameters": non_finite(parameters),
        "gradients": non_finite({name: p.grad for name, p in parameters.items() if p.grad is not None}),
    }


def _note(seen: list[str], name: str, output: Any) -> None:
    """Note a module if a tensor of its output is not finite."""
    tensors = [part for part in _parts(output) if isinstance(part, Tensor)]
    if any(tensor.is_floating_point() and not is_finite(tensor) for tensor in tensors):
        seen.append(name)


def _parts(output: Any) -> Sequence[Any]:
    if isinstance(output, (tuple, list)):
        return output
    if isinstance(output, Tensor) or not hasattr(output, "__dict__"):
        return [output]
    return list(vars(output).values())

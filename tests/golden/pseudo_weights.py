"""Deterministic pseudo-random weights, rebuilt from a parameter's name and shape alone.

A golden case stores no weights. Both sides of a comparison call ``pseudo_state_dict`` with the
official checkpoint's key -> shape table, so a whole ResNet-50 Anchor DETR costs no bytes here.
"""

import zlib

import numpy as np
import torch


def pseudo_tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the float32 tensor that stands for parameter ``key`` of ``shape``."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    # the official model shares one head between all decoder layers: entries 0..n-1 hold the same tensor
    parts = key.split(".")
    for i, part in enumerate(parts[:-1]):
        if part in ("class_embed", "bbox_embed") and parts[i + 1].isdigit():
            parts[i + 1] = "0"
    name = ".".join(parts)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("position.weight"):  # anchor points: inside the image
        values = rng.random(shape).astype(np.float32) * 0.96 + 0.02
    elif name.endswith("running_var"):
        values = 1 + 0.1 * np.abs(noise)
    elif name.endswith("running_mean"):
        values = 0.1 * noise
    elif name.endswith(("pattern.weight", "level_embed.weight")):
        values = noise
    elif len(shape) >= 2:  # a linear or convolution weight
        values = noise / np.sqrt(np.prod(shape[1:]))
    elif name.endswith("weight"):  # a normalisation gain
        values = 1 + 0.1 * noise
    else:  # a bias
        values = 0.1 * noise
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def pseudo_state_dict(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Return a state dict for a key -> shape table (see ``keys_*.json``)."""
    return {key: pseudo_tensor(key, tuple(shape)) for key, shape in shapes.items()}


def pseudo_image(seed: int, height: int, width: int) -> torch.Tensor:
    """Return a smooth float32 ``(3, height, width)`` image, already normalised (about zero mean)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    coarse = torch.from_numpy(rng.standard_normal((1, 3, 9, 9)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0]

"""Memory of one attention layer over feature maps: measured, predicted, and by the paper's formula (section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from anchordetr.errors import UsageError, closest_match
from anchordetr.feature_levels import STRIDES
from anchordetr.profiling.peak_memory import free_memory, peak_bytes
from anchordetr.profiling.timing import time_in_turn, with_gradient, without_gradient
from anchordetr.rcda import BACKENDS, RowColumnAttention
from anchordetr.rcda.tiled import tile_bytes

KINDS = (*(f"rcda {backend}" for backend in BACKENDS), "standard", "fused")
_FLOAT_BYTES = 4
_ROUNDS = 3


@dataclass(frozen=True)
class Cost:
    """Memory and time of one layer in one mode.

    Attributes:
        predicted_bytes: peak above inputs and weights by :func:`predict`.
        measured_bytes: measured peak. seconds: median of a few runs. Both are None where the layer does not fit.
    """

    predicted_bytes: int
    measured_bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class AttentionMemory:
    """One self-attention layer over one map.

    Attributes:
        features: feature level. height, width: locations of the map.
        attention: ``rcda BACKEND``, ``standard`` (attention maps in memory, as in the paper) or ``fused``
            (scaled_dot_product_attention).
        map_bytes: size of the attention weights of all heads. z_bytes: size of RCDA's Z, 0 for the others.
        inference, training: cost without and with a backward pass.
        paper_ratio: r = W·M/C, the standard attention's maps over RCDA's Z.
        measured_ratio: inference peak of standard attention with maps over this one's; None where one is missing.
    """

    features: str
    height: int
    width: int
    attention: str
    map_bytes: int
    z_bytes: int
    inference: Cost
    training: Cost
    paper_ratio: float
    measured_ratio: float | None = None


def profile_attention(
    height: int,
    width: int,
    features: Sequence[str],
    device: torch.device,
    kinds: Sequence[str] = KINDS,
    embed_dim: int = 256,
    num_heads: int = 8,
) -> list[AttentionMemory]:
    """Measure attention layers on the maps of one image, float32.

    Args:
        height, width: of the image in pixels.
        features: levels among ``c5``, ``dc5``, ``c4``, ``c3``.
        kinds: among :data:`KINDS`; ``rcda triton`` is left out on a CPU.

    Raises:
        UsageError: a level or kind is unknown.
    """
    for level in features:
        if level not in STRIDES:
            raise UsageError(f"Unknown feature level '{level}'.{closest_match(level, STRIDES)}")
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"Unknown attention '{kind}'.{closest_match(kind, KINDS)}")
    possible = [kind for kind in kinds if kind != "rcda triton" or device.type == "cuda"]
    rows = []
    for level in features:
        size = (math.ceil(height / STRIDES[level]), math.ceil(width / STRIDES[level]))
        rows += _profile_level(level, size, device, possible, embed_dim, num_heads)
    return rows


def predict(kind: str, height: int, width: int, embed_dim: int, num_heads: int, device: str) -> tuple[int, int]:
    """Predict the peaks of a self-attention layer above its input and weights, without and with a backward pass.

    With u the bytes of a map of C channels, A and S those of the decoupled and the dense attention weights,
    Z those of the paper's Z and T those of a tile of Z with its attention weights:

    =============== ================ ==================
    kind            inference        training
    =============== ================ ==================
    rcda reference  Z + A + 4u       2Z + A + 6u
    rcda dense      2S + A + 4u      3S + 4u
    rcda sdpa       2.25S + 9u       3S + 6u
    rcda tiled      5u + T           10u + 2T
    rcda triton     5u               10u
    standard        2S + 3u          3S + 6u
    fused           6u               9u + 2 · weights
    =============== ================ ==================
    """
    locations = height * width
    u = locations * embed_dim * _FLOAT_BYTES
    decoupled = num_heads * locations * (height + width) * _FLOAT_BYTES
    dense = num_heads * locations * locations * _FLOAT_BYTES
    z = u * height
    weights = 4 * embed_dim * embed_dim * _FLOAT_BYTES
    z_of_tiles = u * min(height, width)
    tile, backward_tile = (min(budget, z_of_tiles) for budget in (tile_bytes(device), 2 * tile_bytes(device)))
    weights_of_z = decoupled / z_of_tiles
    return {
        "rcda reference": (z + decoupled + 4 * u, 2 * z + decoupled + 6 * u),
        "rcda dense": (2 * dense + decoupled + 4 * u, 3 * dense + 4 * u),
        "rcda sdpa": (2 * dense + dense // 4 + 9 * u, 3 * dense + 6 * u),
        "rcda tiled": (
            5 * u + round(tile * (1 + 2 * weights_of_z)),
            10 * u + round(backward_tile * (1 + 4 * weights_of_z)),
        ),
        "rcda triton": (5 * u, 10 * u),
        "standard": (2 * dense + 3 * u, 3 * dense + 6 * u),
        "fused": (6 * u, 9 * u + 2 * weights),
    }[kind]


def _profile_level(
    level: str, size: tuple[int, int], device: torch.device, kinds: Sequence[str], embed_dim: int, num_heads: int
) -> list[AttentionMemory]:
    height, width = size
    features = torch.randn(1, height, width, embed_dim, device=device, requires_grad=True)
    predicted = {kind: predict(kind, height, width, embed_dim, num_heads, device.type) for kind in kinds}
    fitting = [kind for kind in kinds if predicted[kind][1] < free_memory(device)]
    layers = {kind: _layer(kind, embed_dim, num_heads, device) for kind in fitting}
    calls = {kind: partial(layer, features) for kind, layer in layers.items()}
    inference = _measure({kind: without_gradient(call) for kind, call in calls.items()}, device)
    training = _measure(
        {kind: with_gradient(call, [features, *layers[kind].parameters()]) for kind, call in calls.items()}, device
    )
    locations = height * width
    rows = []
    for kind in kinds:
        is_rcda = kind.startswith("rcda")
        rows.append(
            AttentionMemory(
                features=level,
                height=height,
                width=width,
                attention=kind,
                map_bytes=num_heads * locations * ((height + width) if is_rcda else locations) * _FLOAT_BYTES,
                z_bytes=locations * height * embed_dim * _FLOAT_BYTES if is_rcda else 0,
                inference=Cost(predicted[kind][0], *inference.get(kind, (None, None))),
                training=Cost(predicted[kind][1], *training.get(kind, (None, None))),
                paper_ratio=width * num_heads / embed_dim,
                measured_ratio=inference["standard"][0] / inference[kind][0]
                if {"standard", kind} <= inference.keys()
                else None,
            )
        )
    return rows


def _measure(runs: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, tuple[int, float]]:
    seconds = time_in_turn(runs, device, _ROUNDS)
    return {kind: (peak_bytes(run, device), median(seconds[kind])) for kind, run in runs.items()}


def _layer(kind: str, embed_dim: int, num_heads: int, device: torch.device) -> nn.Module:
    if kind.startswith("rcda "):
        return RowColumnAttention(embed_dim, num_heads, backend=kind.removeprefix("rcda ")).to(device)
    return _StandardLayer(embed_dim, num_heads, need_weights=kind == "standard").to(device)


class _StandardLayer(nn.Module):
    """``nn.MultiheadAttention`` over the locations of a map, with or without its attention maps in memory."""

    def __init__(self, embed_dim: int, num_heads: int, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.need_weights = need_weights

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H·W, C)."""
        locations = features.flatten(1, 2)
        output: Tensor = self.attention(
            locations, locations, locations, need_weights=self.need_weights, average_attn_weights=False
        )[0]
        return output

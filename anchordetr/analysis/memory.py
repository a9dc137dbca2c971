"""Measured memory of attention over feature maps, beside what the paper's formula says (section 3.4)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anchordetr.errors import UsageError, closest_match
from anchordetr.rcda import RowColumnAttention

STRIDES = {"c5": 32, "dc5": 16, "c4": 16, "c3": 8}
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class AttentionMemory:
    """Memory of one self-attention layer over one map; bytes.

    Attributes:
        features: feature level. attention: ``rcda``, ``standard`` (attention maps in memory, as in the paper) or
            ``fused`` (scaled_dot_product_attention). height, width: cells of the map.
        map_bytes: of the attention weights of all heads. z_bytes: of RCDA's intermediate Z, 0 for the others.
        forward_bytes, training_bytes: peak above the inputs and weights, without and with a backward pass; None where
            it would not fit into the memory that is free.
        paper_ratio: r = W·M/C, the standard attention's maps over RCDA's Z.
        measured_ratio: forward peak of standard attention with maps over RCDA's; None where one is missing.
    """

    features: str
    attention: str
    height: int
    width: int
    map_bytes: int
    z_bytes: int
    forward_bytes: int | None
    training_bytes: int | None
    paper_ratio: float
    measured_ratio: float | None = None


def profile_attention(
    height: int,
    width: int,
    features: Sequence[str],
    device: torch.device,
    embed_dim: int = 256,
    num_heads: int = 8,
) -> list[AttentionMemory]:
    """Measure RCDA and standard attention on the maps of one picture, float32.

    Args:
        height, width: of the picture in pixels.
        features: levels among ``c5``, ``dc5``, ``c4``, ``c3``.

    Raises:
        UsageError: a level is not known.
    """
    rows = []
    for level in features:
        if level not in STRIDES:
            raise UsageError(f"Unknown feature level '{level}'.{closest_match(level, STRIDES)}")
        size = (math.ceil(height / STRIDES[level]), math.ceil(width / STRIDES[level]))
        rows += _profile_level(level, size, device, embed_dim, num_heads)
    return rows


def _profile_level(
    level: str, size: tuple[int, int], device: torch.device, embed_dim: int, num_heads: int
) -> list[AttentionMemory]:
    height, width = size
    cells = height * width
    maps = {
        "rcda": num_heads * cells * (height + width) * _FLOAT_BYTES,
        "standard": num_heads * cells * cells * _FLOAT_BYTES,
        "fused": 0,
    }
    z_bytes = cells * height * embed_dim * _FLOAT_BYTES
    peaks: dict[str, tuple[int | None, int | None]] = {}
    for attention, map_bytes in maps.items():
        needed = 3 * (map_bytes + z_bytes if attention == "rcda" else map_bytes)
        fits = needed < free_memory(device)
        peaks[attention] = _measure(attention, size, device, embed_dim, num_heads) if fits else (None, None)
    standard, rcda = peaks["standard"][0], peaks["rcda"][0]
    return [
        AttentionMemory(
            features=level,
            attention=attention,
            height=height,
            width=width,
            map_bytes=map_bytes,
            z_bytes=z_bytes if attention == "rcda" else 0,
            forward_bytes=peaks[attention][0],
            training_bytes=peaks[attention][1],
            paper_ratio=width * num_heads / embed_dim,
            measured_ratio=standard / rcda if attention == "rcda" and standard and rcda else None,
        )
        for attention, map_bytes in maps.items()
    ]


def _measure(
    attention: str, size: tuple[int, int], device: torch.device, embed_dim: int, num_heads: int
) -> tuple[int, int]:
    features = torch.randn(1, *size, embed_dim, device=device, requires_grad=True)
    run = _self_attention(attention, embed_dim, num_heads, device)

    def forward() -> None:
        with torch.no_grad():
            run(features)

    def train() -> None:
        torch.autograd.grad(run(features).sum(), features)

    return peak_bytes(forward, device), peak_bytes(train, device)


def _self_attention(attention: str, embed_dim: int, num_heads: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    if attention == "rcda":
        rcda: Callable[[Tensor], Tensor] = RowColumnAttention(embed_dim, num_heads).to(device)
        return rcda
    standard = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True, device=device)
    need_weights = attention == "standard"

    def run(features: Tensor) -> Tensor:
        cells = features.flatten(1, 2)
        output: Tensor = standard(cells, cells, cells, need_weights=need_weights, average_attn_weights=False)[0]
        return output

    return run


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Return the most memory that ``run`` holds at once beyond what was held before, as torch's allocator saw it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        run()
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def free_memory(device: torch.device) -> int:
    """Return the bytes that can be allocated on a device; half of the free memory on the CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return 4 << 30
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2

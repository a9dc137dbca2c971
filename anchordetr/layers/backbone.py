"""From images to feature maps: any timm network, or a registered module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import Tensor, nn

from anchordetr.errors import InputError, UsageError, closest_match, limited, reason, setting
from anchordetr.feature_levels import is_dilated, strides_of
from anchordetr.files import require_regular_file
from anchordetr.grouping import group_by
from anchordetr.layers.frozen_norm import fold_frozen_norms
from anchordetr.layers.fx_graph import runs_by_modules
from anchordetr.registry import BACKBONES, own_parts
from anchordetr.types import ImageBatch, pad_and_stack
from anchordetr.web import is_reachable, only_errors

Size = tuple[int, int]


@dataclass(frozen=True)
class PaddedMap:
    """One feature map (B, C, H, W) and the valid (height, width) of each image in it."""

    features: Tensor
    sizes: tuple[Size, ...]


class Backbone(nn.Module):
    """Runs a network over a batch; in eval mode, padding does not change the features of any image.

    In training a padded batch runs as one tensor. In eval mode images of one size run together, unpadded, and
    their maps are padded afterwards.

    Args:
        body: module from (B, 3, H, W) to a list of maps (B, C, H', W'), with the attributes ``channels`` and
            ``strides`` (one per map) and ``mean`` and ``std`` (three floats each, the normalisation of its images).
    """

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body.to(memory_format=torch.channels_last)
        self.channels: Sequence[int] = body.channels
        self.strides: Sequence[int] = body.strides
        self.mean: tuple[float, float, float] = body.mean
        self.std: tuple[float, float, float] = body.std

    def forward(self, images: ImageBatch) -> list[PaddedMap]:
        """Return one map per level."""
        if images.is_padded and not self.training:
            return self._forward_by_size(images)
        maps = self._forward_training(images.pixels) if self.training else self.body(images.pixels)
        return [
            PaddedMap(features, tuple(_map_size(size, stride, features) for size in images.sizes))
            for features, stride in zip(maps, self.strides, strict=True)
        ]

    def _forward_training(self, pixels: Tensor) -> list[Tensor]:
        try:
            maps: list[Tensor] = self.body(pixels)
        except ValueError as error:  # of a batch norm, which needs more than one value per channel
            images = f"{len(pixels)} image(s) of {pixels.shape[-2]}x{pixels.shape[-1]} pixels"
            raise InputError(
                f"A batch of {images} is too small for training: {reason(error)}. "
                "Use larger images or batches, or set model.freeze_batch_norm=true."
            ) from error
        return maps

    def _forward_by_size(self, images: ImageBatch) -> list[PaddedMap]:
        rows: list[list[Tensor]] = [[] for _ in images.sizes]
        for (height, width), members in group_by(images.sizes).items():
            maps = self.body(images.pixels[members, :, :height, :width])
            for position, member in enumerate(members):
                rows[member] = [features[position] for features in maps]
        return [_pad_maps(level) for level in zip(*rows, strict=True)]


def _map_size(size: Size, stride: int, features: Tensor) -> Size:
    height, width = (min(-(-side // stride), limit) for side, limit in zip(size, features.shape[-2:], strict=True))
    return height, width


def _pad_maps(maps: Sequence[Tensor]) -> PaddedMap:
    return PaddedMap(pad_and_stack(maps), tuple((features.shape[1], features.shape[2]) for features in maps))


class TimmBody(nn.Module):
    """A timm network that returns feature maps.

    Args:
        name: timm's name, with or without a pretrained tag ("resnet50.tv_in1k").
        features: a set of levels (``anchordetr/feature_levels.py``), such as ``dc5`` or ``c4_c5``.
        pretrained: download and load timm's weights.
        weights: a file with timm's weights for this network, loaded instead of a download.
        freeze_batch_norm: keep batch norm in eval mode and its parameters fixed.
        frozen_stages: number of first stages whose parameters stay fixed; the stem belongs to the first stage.

    Raises:
        UsageError: timm has no such network, or the network has no such feature map.
        InputError: the weights cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        features: str,
        pretrained: bool = False,
        weights: Path | None = None,
        freeze_batch_norm: bool = True,
        frozen_stages: int = 1,
    ) -> None:
        super().__init__()
        options, indices, self.strides = _select_levels(name, features)
        self.network = _create_network(name, pretrained, weights, out_indices=indices, **options)
        self.channels = self.network.feature_info.channels()
        self.mean = tuple(self.network.default_cfg["mean"])
        self.std = tuple(self.network.default_cfg["std"])
        self.freeze_batch_norm = freeze_batch_norm
        self._folded: Callable[[Tensor], list[Tensor]] | None = None
        if freeze_batch_norm:
            for module in self._batch_norms():
                module.eval().requires_grad_(False)
            folded = fold_frozen_norms(self.network)
            self._folded = None if folded is None else folded.forward  # only the method: its modules are the network's
        self._freeze_stages(frozen_stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, C, H', W') per level."""
        if self.training and self._folded is not None and not runs_by_modules(self.network):
            return self._folded(pixels)
        maps: list[Tensor] = self.network(pixels)
        return maps

    def train(self, mode: bool = True) -> TimmBody:
        """Set the training mode; frozen batch norm stays in eval mode."""
        super().train(mode)
        if self.freeze_batch_norm:
            for module in self._batch_norms():
                module.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def _freeze_stages(self, count: int) -> None:
        """Freeze the parameters up to the end of stage ``count``, whose map has stride 4 · 2^(count - 1)."""
        stages = [info["module"] for info in self.network.feature_info.info if info["reduction"] == 2 << count]
        if count == 0 or not stages:
            return
        parameters = list(self.network.named_parameters())
        prefixes = (stages[-1] + ".", stages[-1].replace(".", "_") + ".")
        last = max((i for i, (key, _) in enumerate(parameters) if key.startswith(prefixes)), default=-1)
        for _, parameter in parameters[: last + 1]:
            parameter.requires_grad_(False)


def _select_levels(name: str, features: str) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    """Return timm's options, the indices of the chosen maps and their strides."""
    if not timm.is_model(name.split(".")[0]):
        known = [*BACKBONES.names(), *timm.list_models()]
        listing = "timm.list_models()"
        raise UsageError(f"Unknown backbone '{limited(name)}'.{closest_match(name, known, listing)} {own_parts()}")
    options: dict[str, Any] = {"output_stride": 16} if is_dilated(features) else {}
    try:
        with torch.device("meta"):
            network: Any = timm.create_model(name, features_only=True, **options)
        strides = network.feature_info.reduction()
    except (TypeError, NotImplementedError, RuntimeError, AssertionError, AttributeError) as error:
        raise UsageError(f"The backbone '{name}' gives no feature maps with '{features}': {error}") from error
    indices: list[int] = []
    for stride in reversed(strides_of(features)):
        end = indices[0] if indices else len(strides)
        matches = [i for i, found in enumerate(strides[:end]) if found == stride]
        if not matches:
            raise UsageError(f"The backbone '{name}' has no map of stride {stride} for '{features}'; it has {strides}.")
        indices.insert(0, matches[-1])
    return options, tuple(indices), tuple(strides[i] for i in indices)


def _create_network(name: str, pretrained: bool, weights: Path | None, **options: Any) -> Any:
    if weights is not None:
        require_regular_file(weights)
    elif pretrained:
        weights = _downloaded_before(name)
    overlay = {"file": str(weights)} if weights is not None else None
    try:
        with only_errors("timm", "huggingface_hub"):
            return timm.create_model(
                name,
                features_only=True,
                pretrained=pretrained or weights is not None,
                pretrained_cfg_overlay=overlay,
                **options,
            )
    except Exception as error:
        source = f"from {weights}" if weights is not None else "over the network"
        raise InputError(
            f"The weights of the backbone '{name}' could not be loaded {source} ({reason(error)}): {_advice()}."
        ) from error


def _downloaded_before(name: str) -> Path | None:
    """Return the file of timm's weights if an earlier run has fetched it; None if timm is to fetch it.

    Raises:
        UsageError: timm has no weights of this network.
        InputError: the hub cannot be reached, for which huggingface_hub waits a minute.
    """
    published = timm.models.get_pretrained_cfg(name)
    if published is None or not published.has_weights:
        raise UsageError(f"timm has no weights of the backbone '{name}': {_advice()}.")
    if not published.hf_hub_id:
        return None
    repository, _, revision = published.hf_hub_id.partition("@")
    for file in (published.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(repository, file, revision=revision or None) if file else None
        if isinstance(found, str) and not published.custom_load:
            return Path(found)
    if not constants.HF_HUB_OFFLINE and not is_reachable(constants.ENDPOINT):
        raise InputError(
            f"The weights of the backbone '{name}' are not on this machine, and {constants.ENDPOINT} cannot be "
            f"reached: connect to the network, {_advice()}."
        )
    return None


def _advice() -> str:
    return (
        f"give a file with {setting('model.backbone_weights', 'FILE')}, or start from random weights with "
        f"{setting('model.pretrained_backbone', 'false')}"
    )

"""Detectors of Hugging Face's `transformers` with the library's backbone, trainer and evaluation.

A peer has its own encoder, decoder, heads, matching and losses, with the weights of the losses that its class has by
default. Its backbone, images, augmentation, optimizer, schedule and evaluation are the library's, as are the numbers
of channels, heads, layers and queries. Everything but the backbone is initialised at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anchordetr.config import ModelConfig
from anchordetr.criterion.criterion import Losses
from anchordetr.criterion.matcher import Matches
from anchordetr.errors import InputError, UsageError
from anchordetr.layers.backbone import Backbone
from anchordetr.models.builders import build_backbone
from anchordetr.types import ImageBatch, Predictions, Target

_CLASS_HEADS = {"class_labels_classifier", "class_embed", "enc_score_head"}
_BOX_HEADS = {"bbox_predictor", "bbox_embed", "enc_bbox_head"}
_FIRST_SCORE = 0.01
PEERS = ("detr", "conditional_detr", "deformable_detr", "rt_detr")
NEVER = -50.0
"""The logit of a class that is not predicted."""
Call = Callable[[Sequence[Target]], Losses]


class OneBackbone(nn.Module):
    """The library's backbone in place of a peer's: the same network, weights and frozen parts for all of them.

    Args:
        body: from images to a list of maps.
        min_locations: how many locations the peer needs in all maps.
    """

    def __init__(self, body: nn.Module, min_locations: int) -> None:
        super().__init__()
        self.body = body
        self.min_locations = min_locations

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Images (B, 3, H, W) and their mask (B, H, W) -> maps (B, C, H', W') with masks, True = valid.

        Raises:
            UsageError: the maps have too few locations.
        """
        maps = self.body(pixel_values)
        locations = sum(features[0, 0].numel() for features in maps)
        if locations < self.min_locations:
            raise UsageError(
                f"RT-DETR chooses its {self.min_locations} queries among the locations of its maps, here {locations}. "
                "Enlarge the images (data.short_side, data.train_short_sides) or lower model.num_anchors."
            )
        masks = [F.interpolate(pixel_mask[None].float(), size=features.shape[-2:])[0].bool() for features in maps]
        return list(zip(maps, masks, strict=True))


class Peer(nn.Module):
    """A detector of `transformers` with the interface that the library's trainer and evaluation expect.

    Args:
        backbone: the library's; the first part, so that its parameters have the backbone's learning rate.
        network: a ``...ForObjectDetection`` with :class:`OneBackbone` in it.
        has_no_object: whether its last class means that there is no object, and scores are a softmax.
        has_masks: whether it knows which part of a batch is padding. If not (RT-DETR), its boxes are fractions of the
            whole batch's height and width, which are padded to multiples of the coarsest stride.
    """

    def __init__(self, *, backbone: Backbone, network: nn.Module, has_no_object: bool, has_masks: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.network = network
        self.has_no_object = has_no_object
        self.has_masks = has_masks

    def forward(self, images: ImageBatch, targets: Sequence[Target] | None = None) -> Predictions | Call:
        """Return predictions; in training return a function of the targets that computes the peer's own losses.

        ``targets`` are not used: :class:`PeerCriterion` passes them to that function.
        """
        pixels = images.pixels if self.has_masks else pad_to_multiple(images.pixels, max(self.backbone.strides))
        mask = torch.zeros(pixels[:, 0].shape, dtype=torch.int64, device=pixels.device)
        for row, (height, width) in zip(mask, images.sizes, strict=True):
            row[:height, :width] = 1
        call = partial(self.network, pixel_values=pixels, pixel_mask=mask)
        extents = self._extents(pixels, images.sizes)
        if self.training:
            return lambda targets: _losses(call, targets, extents)
        outputs = call()
        logits = softmax_scores_as_logits(outputs.logits) if self.has_no_object else outputs.logits
        boxes = outputs.pred_boxes / extents
        return Predictions(logits[None], boxes[None], boxes[..., :2], num_anchors=boxes.shape[1])

    def _extents(self, pixels: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return the width, height, width and height of each image in the unit of the peer's boxes, (B, 1, 4)."""
        rows, columns = pixels.shape[-2:]
        shares = [(1.0, 1.0) if self.has_masks else (width / columns, height / rows) for height, width in sizes]
        return pixels.new_tensor(shares)[:, None].repeat(1, 1, 2)


def pad_to_multiple(pixels: Tensor, divisor: int) -> Tensor:
    """Return images (B, 3, H, W) with zeros at the right and at the bottom, to sides that are multiples."""
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % divisor, 0, -height % divisor))


def softmax_scores_as_logits(logits: Tensor) -> Tensor:
    """Return logits (B, Q, K) whose sigmoids are DETR's scores: each query predicts only its best class.

    Args:
        logits: (B, Q, K + 1), the last class means that there is no object.
    """
    scores = logits.softmax(-1)[..., :-1]
    best = scores == scores.amax(-1, keepdim=True)
    return scores.logit(eps=1e-6).masked_fill(~best, NEVER)


def _losses(call: Callable[..., Any], targets: Sequence[Target], extents: Tensor) -> Losses:
    described = [
        {"class_labels": target.labels, "boxes": target.boxes * extent}
        for target, extent in zip(targets, extents, strict=True)
    ]
    outputs = call(labels=described)
    found: Mapping[str, Tensor] = outputs.loss_dict
    return own_losses(outputs.loss, found.get("loss_ce", found.get("loss_vfl")), found["loss_bbox"], found["loss_giou"])


def own_losses(total: Tensor, class_loss: Any, box_loss: Any, giou_loss: Any) -> Losses:
    """Return a peer's losses: the total, and the last layer's terms, without matches."""
    values = {"class": class_loss, "box": box_loss, "giou": giou_loss}
    terms = {name: torch.as_tensor(value, device=total.device).detach() for name, value in values.items()}
    nothing = torch.zeros(0, dtype=torch.int64)
    return Losses(total, terms, Matches(nothing, nothing, nothing, nothing))


class PeerCriterion(nn.Module):
    """Calls the function that a peer returns in training; the losses are the peer's own."""

    def forward(self, call: Call, targets: Sequence[Target], num_boxes: Tensor) -> Losses:
        """Return the peer's losses; it divides by the number of objects of the batch itself."""
        return call(targets)


def build_peer(name: str, config: ModelConfig) -> Peer:
    """Build a peer with as many channels, heads, layers and queries as the configuration's network has.

    Raises:
        InputError: `transformers` is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            "The peers are detectors of transformers, which is not installed; run: pip install transformers"
        ) from error
    backbone = build_backbone(config)
    classes = {
        "detr": (transformers.DetrConfig, transformers.DetrForObjectDetection),
        "conditional_detr": (transformers.ConditionalDetrConfig, transformers.ConditionalDetrForObjectDetection),
        "deformable_detr": (transformers.DeformableDetrConfig, transformers.DeformableDetrForObjectDetection),
        "rt_detr": (transformers.RTDetrConfig, transformers.RTDetrForObjectDetection),
    }
    make_config, make_network = classes[name]
    network = make_network(make_config(**_sizes(config, backbone), **_own_sizes(name, config, backbone)))
    init_as_published(name, network)
    network.model.backbone = OneBackbone(backbone.body, config.num_queries if name == "rt_detr" else 0)
    return Peer(backbone=backbone, network=network, has_no_object=name == "detr", has_masks=name != "rt_detr")


@torch.no_grad()
def init_as_published(name: str, network: nn.Module) -> None:
    """Initialise a peer's network as its paper does.

    Layers are initialised by torch's defaults, matrices of encoder and decoder by Xavier's rule; with a focal loss
    scores start at 0.01 (Lin et al., ICCV 2017) and boxes at their reference points, in Deformable DETR with small
    sides. Deformable attentions and reference points stay as `transformers` makes them, which is as published.
    """
    kept = {part for part, module in network.named_modules() if hasattr(module, "sampling_offsets")} | {"model"}
    for part, module in network.named_modules():
        is_kept = part.rpartition(".")[0] in kept and isinstance(module, nn.Linear)
        if hasattr(module, "reset_parameters") and not is_kept:
            module.reset_parameters()
            if part.startswith(("model.encoder.", "model.decoder.")) and isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
    if name == "detr":
        return
    for part, module in network.named_modules():
        if isinstance(module, nn.Linear) and _CLASS_HEADS & set(part.split(".")):
            nn.init.constant_(module.bias, -math.log((1 - _FIRST_SCORE) / _FIRST_SCORE))
        elif isinstance(module, nn.Linear) and _BOX_HEADS & set(part.split(".")) and module.out_features == 4:
            nn.init.zeros_(module.weight)
            module.bias.copy_(torch.tensor([0.0, 0.0, *([-2.0] * 2 if name == "deformable_detr" else [0.0] * 2)]))


def _sizes(config: ModelConfig, backbone: Backbone) -> dict[str, Any]:
    """Settings that all peers' configurations share; the backbone named here is replaced."""
    return {
        "backbone_config": {
            "model_type": "timm_backbone",
            "backbone": config.backbone.split(".")[0],
            "out_indices": list(backbone.body.network.feature_info.out_indices),
        },
        "num_labels": config.num_classes,
        "num_queries": config.num_queries,
        "d_model": config.embed_dim,
        "encoder_layers": config.encoder_layers,
        "encoder_ffn_dim": config.ffn_dim,
        "encoder_attention_heads": config.num_heads,
        "decoder_layers": config.decoder_layers,
        "decoder_ffn_dim": config.ffn_dim,
        "decoder_attention_heads": config.num_heads,
        "dropout": config.dropout,
        "auxiliary_loss": True,
    }


def _own_sizes(name: str, config: ModelConfig, backbone: Backbone) -> dict[str, Any]:
    """Settings of one peer: Deformable DETR and RT-DETR read all maps of the backbone, the others the coarsest."""
    levels = len(backbone.channels)
    if name == "deformable_detr":
        return {"num_feature_levels": levels, "disable_custom_kernels": True}
    if name == "rt_detr":
        return {
            "num_feature_levels": levels,
            "encoder_hidden_dim": config.embed_dim,
            "encoder_in_channels": list(backbone.channels),
            "feat_strides": list(backbone.strides),
            "encode_proj_layers": [levels - 1],
            "decoder_in_channels": [config.embed_dim] * levels,
        }
    return {}

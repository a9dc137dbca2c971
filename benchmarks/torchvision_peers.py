"""Faster R-CNN and RetinaNet of torchvision with the library's backbone, trainer and evaluation.

Both have the losses, the non-maximum suppression and the heads of their classes. Their pyramid has as many channels as
the library's transformer. What their classes choose for images with a short side of 800 pixels is scaled to the images
here: the sizes of the anchors, and the size from which a level of the pyramid is chosen. Faster R-CNN learns from 128
boxes of an image, as in its paper; the 512 of the class are for large images and would make a step three times as
long. Scores have no lower limit, since the 100 best detections of the other networks have none either.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from peers import NEVER, Call, own_losses
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, box_convert
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from anchordetr.config import ModelConfig
from anchordetr.criterion.criterion import Losses
from anchordetr.layers.backbone import Backbone
from anchordetr.models.builders import build_backbone
from anchordetr.types import ImageBatch, Predictions, Target

TORCHVISION_PEERS = ("torchvision_faster_rcnn", "torchvision_retinanet")
_USUAL_SHORT_SIDE = 800  # pixels; what the sizes of the classes are meant for
_CANONICAL_SIZE = 224  # pixels of a box that Faster R-CNN reads from the level of stride 16
_BOXES_OF_AN_IMAGE = 128  # that Faster R-CNN's second stage learns from
_MOST_DETECTIONS = 300
_RATIOS = (0.5, 1.0, 2.0)


class Pyramid(nn.Module):
    """The library's backbone under torchvision's feature pyramid.

    Args:
        body: from images to a list of maps.
        pyramid: torchvision's, over all of them.
        out_channels: of each level, as torchvision's detectors ask for it.
    """

    def __init__(self, body: nn.Module, pyramid: FeaturePyramidNetwork, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.pyramid = pyramid
        self.out_channels = out_channels

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> levels (B, C, H', W') by name, the finest first."""
        maps = self.body(pixels)
        levels: dict[str, Tensor] = self.pyramid(OrderedDict((str(i), features) for i, features in enumerate(maps)))
        return levels


class OnlyBatch(GeneralizedRCNNTransform):
    """Torchvision's batches, padded to multiples of 32, of images that are resized and normalised already."""

    def __init__(self) -> None:
        super().__init__(min_size=0, max_size=0, image_mean=[0.0] * 3, image_std=[1.0] * 3)

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Return both as they are."""
        return image, target


class TorchvisionPeer(nn.Module):
    """A detector of torchvision with the interface that the library's trainer and evaluation expect.

    Args:
        backbone: the library's; the first part, so that its parameters have the backbone's learning rate.
        network: a detector with :class:`Pyramid` in it.
        num_classes: K. first_label: the detector's label of class 0.
    """

    def __init__(self, *, backbone: Backbone, network: nn.Module, num_classes: int, first_label: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.network = network
        self.network.transform = OnlyBatch()
        self.num_classes = num_classes
        self.first_label = first_label

    def forward(self, images: ImageBatch, targets: Sequence[Target] | None = None) -> Predictions | Call:
        """Return predictions; in training return a function of the targets that computes the peer's own losses."""
        unpadded = [
            pixels[:, :height, :width] for pixels, (height, width) in zip(images.pixels, images.sizes, strict=True)
        ]
        if self.training:
            return lambda targets: self._losses(unpadded, targets)
        return self._predictions(self.network(unpadded), images.sizes)

    def _losses(self, images: list[Tensor], targets: Sequence[Target]) -> Losses:
        described = [
            {"boxes": in_pixels(target.boxes, image), "labels": target.labels + self.first_label}
            for image, target in zip(images, targets, strict=True)
        ]
        losses: dict[str, Tensor] = self.network(images, described)
        found_class = losses.get("loss_classifier", losses.get("classification"))
        found_box = losses.get("loss_box_reg", losses.get("bbox_regression"))
        return own_losses(torch.stack(list(losses.values())).sum(), found_class, found_box, 0.0)

    def _predictions(self, found: list[dict[str, Tensor]], sizes: Sequence[tuple[int, int]]) -> Predictions:
        """Return each detection as a query that predicts its class alone; images are filled up with empty queries."""
        most = max(1, *(len(image["scores"]) for image in found))
        device = found[0]["boxes"].device
        logits = torch.full((len(found), most, self.num_classes), NEVER, device=device)
        boxes = torch.zeros(len(found), most, 4, device=device)
        for row, (image, (height, width)) in enumerate(zip(found, sizes, strict=True)):
            rows = torch.arange(len(image["scores"]), device=device)
            logits[row, rows, image["labels"] - self.first_label] = image["scores"].float().logit(eps=1e-6)
            extent = torch.tensor([width, height, width, height], device=device)
            boxes[row, rows] = box_convert(image["boxes"].float(), "xyxy", "cxcywh") / extent
        return Predictions(logits[None], boxes[None], boxes[..., :2], num_anchors=most)


def in_pixels(boxes: Tensor, image: Tensor) -> Tensor:
    """Return boxes (T, 4) cx, cy, w, h as fractions of an image (3, H, W) as x1, y1, x2, y2 in its pixels."""
    height, width = image.shape[-2:]
    return box_convert(boxes, "cxcywh", "xyxy") * boxes.new_tensor([width, height, width, height])


def build_torchvision_peer(name: str, config: ModelConfig, short_side: int) -> TorchvisionPeer:
    """Build a detector of torchvision over all maps of the backbone.

    Args:
        name: one of ``TORCHVISION_PEERS``. config: gives the backbone, the number of classes and of channels.
        short_side: pixels of the images, for the sizes of anchors.
    """
    backbone = build_backbone(config)
    build = _faster_rcnn if name == "torchvision_faster_rcnn" else _retinanet
    network = build(backbone, config, short_side / _USUAL_SHORT_SIDE)
    has_background = isinstance(network, FasterRCNN)
    return TorchvisionPeer(
        backbone=backbone, network=network, num_classes=config.num_classes, first_label=int(has_background)
    )


def _faster_rcnn(backbone: Backbone, config: ModelConfig, scale: float) -> FasterRCNN:
    """Its anchors have 32 to 512 pixels in images of 800, at least five sizes in all, on the backbone's own maps."""
    levels = len(backbone.channels)
    pyramid = FeaturePyramidNetwork(list(backbone.channels), config.embed_dim)
    pool = MultiScaleRoIAlign(
        [str(level) for level in range(levels)],
        output_size=7,
        sampling_ratio=2,
        canonical_scale=max(round(_CANONICAL_SIZE * scale), 1),
    )
    return FasterRCNN(
        Pyramid(backbone.body, pyramid, config.embed_dim),
        num_classes=config.num_classes + 1,
        rpn_anchor_generator=anchors(levels, 5, 32 * scale, 512 * scale),
        box_roi_pool=pool,
        box_batch_size_per_image=_BOXES_OF_AN_IMAGE,
        box_score_thresh=0.0,
        box_detections_per_img=_MOST_DETECTIONS,
    )


def _retinanet(backbone: Backbone, config: ModelConfig, scale: float) -> RetinaNet:
    """Its pyramid has two coarser levels more; its anchors have 32 to 813 pixels in images of 800, fifteen sizes."""
    channels = config.embed_dim
    pyramid = FeaturePyramidNetwork(list(backbone.channels), channels, LastLevelP6P7(channels, channels))
    return RetinaNet(
        Pyramid(backbone.body, pyramid, channels),
        num_classes=config.num_classes,
        anchor_generator=anchors(len(backbone.channels) + 2, 15, 32 * scale, 512 * 2 ** (2 / 3) * scale),
        score_thresh=0.0,
        detections_per_img=_MOST_DETECTIONS,
    )


def anchors(levels: int, count: int, smallest: float, largest: float) -> AnchorGenerator:
    """Return at least ``count`` sizes of anchors in equal ratios, the smallest on the finest level, as many on each.

    With five levels these are the sizes of torchvision's classes; on one map, all of them are at each location.
    """
    per_level = -(-count // levels)
    step = (largest / smallest) ** (1 / (per_level * levels - 1))
    sizes = [smallest * step**index for index in range(per_level * levels)]
    by_level = tuple(tuple(sizes[level * per_level : (level + 1) * per_level]) for level in range(levels))
    return AnchorGenerator(by_level, (_RATIOS,) * levels)

"""Anchor DETR (Wang et al., AAAI 2022, arXiv 2109.07107): the way from pictures to predictions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from anchordetr.layers import prepared
from anchordetr.layers.backbone import Backbone
from anchordetr.layers.decoder import Decoder
from anchordetr.layers.encoder import Encoder
from anchordetr.layers.folded import fold_backbone
from anchordetr.layers.position import SinePositionEncoder, cell_points
from anchordetr.layers.projection import FeatureMap
from anchordetr.types import ImageBatch, Predictions


class AnchorDETR(nn.Module):
    """The detector's network, from parts made ready.

    Args:
        backbone: :class:`~anchordetr.layers.backbone.Backbone`.
        projection: backbone maps -> :class:`~anchordetr.layers.projection.FeatureMap`.
        queries: module from a position encoder to :class:`~anchordetr.layers.anchors.Queries`.
        key_encoder: position encoder of the map's cells.
        query_encoder: position encoder of the anchors; None shares the one of the keys, as the paper does.
        encoder, decoder: see ``layers/encoder.py`` and ``layers/decoder.py``.
        class_head: (..., C) -> (..., K). box_head: (..., C) and the decoder's references (..., 2 or 4) -> (..., 4).
        joint_position: whether the map attentions read both coordinates in one encoding.
        predict_cells: in training, let every cell of the encoded map predict too, so that the encoder learns from
            losses of its own, as with the encoder's proposals of Deformable DETR (Zhu et al., ICLR 2021).
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        projection: nn.Module,
        queries: nn.Module,
        key_encoder: SinePositionEncoder | prepared.MapPositions,
        encoder: nn.Module,
        decoder: nn.Module,
        class_head: nn.Module,
        box_head: nn.Module,
        joint_position: bool,
        predict_cells: bool = False,
        query_encoder: SinePositionEncoder | prepared.MapPositions | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = projection
        self.queries = queries
        self.key_encoder = key_encoder
        self.query_encoder = query_encoder
        self.encoder = encoder
        self.decoder = decoder
        self.class_head = class_head
        self.box_head = box_head
        self.joint_position = joint_position
        self.predict_cells = predict_cells

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of encoder and decoder, which must be the library's or have ``layers`` too."""
        return [*cast(Encoder, self.encoder).layers, *cast(Decoder, self.decoder).layers]

    def forward(self, images: ImageBatch | Sequence[Tensor]) -> Predictions:
        """Detect objects.

        Args:
            images: a batch, or a list of normalised float (3, H, W) pictures of any sizes.

        Returns:
            Predictions of every decoder layer, the last one is the answer.

        Raises:
            InputError: the list is empty or holds something that is no picture.
        """
        batch = images if isinstance(images, ImageBatch) else ImageBatch.from_list(images)
        return self.detect(self.projection(self.backbone(batch)))

    def detect(self, features: FeatureMap) -> Predictions:
        """Run everything behind the backbone: encoder, decoder and heads."""
        encoder = self.query_encoder or self.key_encoder
        queries = self.queries(encoder)
        masks = features.attention_masks
        cells = self.key_encoder.of_map(features.mask_x, features.mask_y, joint=self.joint_position)
        memory = self.encoder(features.values, cells, *masks)
        batch = len(memory) // features.levels
        content = queries.content.expand(batch, -1, -1)
        hidden, references = self.decoder(content, queries.positions, memory, cells, *masks, encoder, self.box_head)
        return Predictions(
            logits=self.class_head(hidden),
            boxes=self.box_head(hidden, references),
            anchors=queries.points.expand(batch, -1, -1),
            num_anchors=queries.num_anchors,
            cells=self._predict_cells(memory, features) if self.predict_cells and self.training else None,
        )

    @torch.no_grad()
    def optimize_for_inference(self, dtype: torch.dtype | None = None) -> AnchorDETR:
        """Return a network prepared for inference; this one stays as it is, and later changes do not reach the copy.

        Batch norm is folded into the convolutions, what depends on anchors alone is computed once, and only the last
        decoder layer predicts: logits (1, B, Q, K) and boxes (1, B, Q, 4) in float32. The copy stays on this network's
        device, and it cannot be trained.

        Args:
            dtype: of weights and features, such as ``torch.bfloat16``; float32 if not given. Norms of padded maps,
                positions and boxes are computed in float32.

        Raises:
            ValueError: ``dtype`` is not a floating-point type.
        """
        dtype = torch.float32 if dtype is None else dtype
        if not dtype.is_floating_point:
            raise ValueError(f"A network cannot run in {dtype}; use torch.float32, torch.bfloat16 or torch.float16.")
        queries = self.queries(self.query_encoder or self.key_encoder)
        return (
            AnchorDETR(
                backbone=fold_backbone(self.backbone, dtype),
                projection=prepared.prepare_projection(self.projection).to(dtype),
                queries=prepared.ConstantQueries(queries, dtype),
                key_encoder=prepared.MapPositions(self.key_encoder, dtype),
                query_encoder=self.query_encoder and prepared.MapPositions(self.query_encoder, dtype),
                encoder=prepared.prepare_encoder(self.encoder).to(dtype),
                decoder=prepared.prepare_decoder(self.decoder, queries).to(dtype),
                class_head=copy.deepcopy(self.class_head),
                box_head=copy.deepcopy(self.box_head),
                joint_position=self.joint_position,
            )
            .eval()
            .requires_grad_(False)
        )

    def _predict_cells(self, memory: Tensor, features: FeatureMap) -> Predictions:
        """Predict a box from every cell, its centre the anchor; cells of the padding see no object."""
        points = cell_points(features.mask_x, features.mask_y).expand(*memory.shape[:3], 2)
        is_valid = features.mask_x[:, None, :, None] & features.mask_y[:, :, None, None]
        logits = self.class_head(memory).masked_fill(~is_valid, _NO_OBJECT)
        boxes = self.box_head(memory, points)
        logits, boxes, points = (
            values.unflatten(0, (-1, features.levels)).flatten(1, 3) for values in (logits, boxes, points)
        )
        return Predictions(logits[None], boxes[None], points, num_anchors=points.shape[1])


_NO_OBJECT = -50.0

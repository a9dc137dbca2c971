"""Anchor DETR (Wang et al., AAAI 2022, arXiv 2109.07107): the way from images to predictions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from anchordetr.errors import UsageError
from anchordetr.layers import prepared
from anchordetr.layers.backbone import Backbone
from anchordetr.layers.decoder import Decoder
from anchordetr.layers.encoder import Encoder
from anchordetr.layers.position import Positions, SinePositionEncoder, location_points
from anchordetr.layers.projection import FeatureMap
from anchordetr.layers.queries import Queries
from anchordetr.optimize.budget import Budget, choose_queries, first_layers, with_parts
from anchordetr.optimize.fold_batch_norm import fold_backbone
from anchordetr.types import ImageBatch, Predictions, Target

TRAINING_ONLY = ("query_groups.", "denoising.")
"""How the names of parameters begin that inference does not use."""


class AnchorDETR(nn.Module):
    """The detector's network, from parts made ready.

    Args:
        backbone: :class:`~anchordetr.layers.backbone.Backbone`.
        projection: backbone maps -> :class:`~anchordetr.layers.projection.FeatureMap`.
        queries: module from a position encoder to :class:`~anchordetr.layers.queries.Queries`.
        key_encoder: position encoder of the map's locations.
        query_encoder: position encoder of the anchors; None shares the one of the keys, as the paper does.
        encoder, decoder: see ``layers/encoder.py`` and ``layers/decoder.py``.
        class_head: (..., C) -> (..., K). box_head: (..., C) and the decoder's references (..., 2 or 4) -> (..., 4).
        joint_position: whether the map attentions read both coordinates in one encoding.
        encoder_loss: in training, let every location of the encoded map predict too, so that the encoder learns from
            losses of its own, as with the encoder's proposals of Deformable DETR (Zhu et al., ICLR 2021).
        query_groups: modules like ``queries``: further groups of queries in training, each decoded and matched on its
            own, as in Group DETR (Chen et al., ICCV 2023).
        denoising: module from a position encoder and targets to further queries in training, see
            ``layers/denoising.py``; None for none.
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
        encoder_loss: bool = False,
        query_encoder: SinePositionEncoder | prepared.MapPositions | None = None,
        query_groups: Sequence[nn.Module] = (),
        denoising: nn.Module | None = None,
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
        self.encoder_loss = encoder_loss
        self.query_groups = nn.ModuleList(query_groups)
        self.denoising = denoising

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of encoder and decoder, which must be the library's or have ``layers`` too."""
        return [*cast(Encoder, self.encoder).layers, *cast(Decoder, self.decoder).layers]

    def forward(self, images: ImageBatch | Sequence[Tensor], targets: Sequence[Target] | None = None) -> Predictions:
        """Detect objects.

        Args:
            images: a batch, or a list of normalised float (3, H, W) images of any sizes.
            targets: the objects of each image; only denoising queries need them, in training.

        Returns:
            Predictions of every decoder layer, the last one is the answer.

        Raises:
            InputError: the list is empty or holds something that is no image.
            ValueError: targets are needed and not given.
        """
        batch = images if isinstance(images, ImageBatch) else ImageBatch.from_list(images)
        return self.detect(self.projection(self.backbone(batch)), targets)

    def detect(self, features: FeatureMap, targets: Sequence[Target] | None = None) -> Predictions:
        """Run everything behind the backbone: encoder, decoder and heads."""
        queries = self.queries(self.query_encoder or self.key_encoder)
        locations = self.key_encoder.of_map(features.mask_x, features.mask_y, joint=self.joint_position)
        memory = self.encoder(features.values, locations, *features.attention_masks)
        answer = self._decode(queries, memory, locations, features)
        if not self.training:
            return answer
        auxiliary = {
            name: self._decode(queries, memory, locations, features)
            for name, queries in self._training_queries(targets).items()
        }
        if self.encoder_loss:
            auxiliary["encoder"] = self._predict_cells(memory, features)
        return replace(answer, auxiliary=auxiliary)

    @property
    def largest_budget(self) -> tuple[int, int, int]:
        """The numbers of anchors, patterns and decoder layers that there are."""
        queries = self.queries(self.query_encoder or self.key_encoder)
        num_patterns = queries.points.shape[1] // queries.num_anchors
        return queries.num_anchors, num_patterns, len(cast(Decoder, self.decoder).layers)

    @torch.no_grad()
    def with_budget(self, budget: Budget) -> AnchorDETR:
        """Return a network that uses a part of this one's queries and decoder layers, and shares all weights with it.

        Any first layers can answer, since all layers were trained to and share their heads. The anchors are chosen for
        the places that they have now.

        Raises:
            UsageError: there is less than the budget asks for, or this network is prepared for inference already.
        """
        if budget == Budget():
            return self
        if isinstance(self.queries, prepared.ConstantQueries):
            raise UsageError("A prepared network keeps its queries; call with_budget before optimize_for_inference.")
        return with_parts(
            self,
            queries=choose_queries(self.queries, self.query_encoder or self.key_encoder, budget),
            decoder=first_layers(self.decoder, budget.layers),
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

    def _training_queries(self, targets: Sequence[Target] | None) -> dict[str, Queries]:
        encoder = self.query_encoder or self.key_encoder
        queries = {f"group_{number}": group(encoder) for number, group in enumerate(self.query_groups, start=1)}
        if self.denoising is not None:
            if targets is None:
                raise ValueError(
                    "Denoising queries are made from targets: call model(images, targets), or model.eval()."
                )
            queries["denoising"] = self.denoising(encoder, targets)
        return queries

    def _decode(self, queries: Queries, memory: Tensor, locations: Positions, features: FeatureMap) -> Predictions:
        """Let queries read the memory, whose positions are ``locations``; queries of the padding see no object."""
        batch = len(memory) // features.levels
        content = queries.content.expand(batch, -1, -1)
        groups = () if queries.valid is None else (queries.valid,)
        encoder = self.query_encoder or self.key_encoder
        hidden, references = self.decoder(
            content, queries.positions, memory, locations, *features.attention_masks, encoder, self.box_head, *groups
        )
        logits = self.class_head(hidden)
        if queries.valid is not None:
            logits = logits.masked_fill(~queries.valid.flatten(1).unsqueeze(-1), _NO_OBJECT)
        return Predictions(
            logits=logits,
            boxes=self.box_head(hidden, references),
            anchors=queries.points.expand(batch, -1, -1),
            num_anchors=queries.num_anchors,
            patterns=queries.patterns,
            objects=queries.objects,
        )

    def _predict_cells(self, memory: Tensor, features: FeatureMap) -> Predictions:
        """Predict a box from every location, its centre the anchor; locations of the padding see no object."""
        points = location_points(features.mask_x, features.mask_y).expand(*memory.shape[:3], 2)
        is_valid = features.mask_x[:, None, :, None] & features.mask_y[:, :, None, None]
        logits = self.class_head(memory).masked_fill(~is_valid, _NO_OBJECT)
        boxes = self.box_head(memory, points)
        logits, boxes, points = (
            values.unflatten(0, (-1, features.levels)).flatten(1, 3) for values in (logits, boxes, points)
        )
        return Predictions(logits[None], boxes[None], points, num_anchors=points.shape[1])


_NO_OBJECT = -50.0

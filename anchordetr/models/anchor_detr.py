"""Anchor DETR (Wang et al., AAAI 2022, arXiv 2109.07107): from images to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from anchordetr.layers.backbone import Backbone
from anchordetr.layers.heads import Heads
from anchordetr.layers.memory import Memory
from anchordetr.optimize.fuse import fuse
from anchordetr.types import ImageBatch, Predictions, Target

TRAINING_ONLY = ("training_sources.",)
"""Prefixes of the names of parameters that only training uses."""


class AnchorDETR(nn.Module):
    """The detection network, assembled from ready-made modules.

    Args:
        backbone: :class:`~anchordetr.types.ImageBatch` -> one map per level (``layers/backbone.py``).
        projection: maps -> :class:`~anchordetr.layers.memory.Memory` (``layers/projection.py``).
        encoder: memory -> memory (``layers/encoder.py``).
        queries: query source, (memory, heads, targets) -> :class:`~anchordetr.layers.queries.Queries`
            (``layers/query_sources.py``).
        decoder: (queries, memory, heads) -> hidden states and references (``layers/decoder.py``).
        heads: hidden states and references -> :class:`~anchordetr.types.Predictions` (``layers/heads.py``).
        training_sources: query sources used only in training, by name; a source may return
            :class:`~anchordetr.types.Predictions` instead, which bypass the decoder.
    """

    backbone: Backbone
    projection: nn.Module
    encoder: nn.Module
    queries: nn.Module
    decoder: nn.Module
    heads: Heads
    training_sources: nn.ModuleDict

    def __init__(
        self,
        *,
        backbone: Backbone,
        projection: nn.Module,
        encoder: nn.Module,
        queries: nn.Module,
        decoder: nn.Module,
        heads: Heads,
        training_sources: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = projection
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.heads = heads
        self.training_sources = nn.ModuleDict(training_sources)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of encoder and decoder."""
        return [*self.encoder.layers, *self.decoder.layers]  # type: ignore[misc]

    def forward(self, images: ImageBatch | Sequence[Tensor], targets: Sequence[Target] | None = None) -> Predictions:
        """Detect objects.

        Args:
            images: a batch, or a list of normalised float (3, H, W) images of any sizes.
            targets: the objects of each image; only denoising queries read them, in training.

        Returns:
            The predictions of every decoder layer, of which the last are the detections; in training, auxiliary
            predictions too.

        Raises:
            InputError: the list is empty, or an item is not a finite floating-point (3, H, W) image.
            ValueError: denoising queries need targets and none are given.
        """
        batch = images if isinstance(images, ImageBatch) else ImageBatch.from_list(images)
        return self.detect(self.projection(self.backbone(batch)), targets)

    def detect(self, memory: Memory, targets: Sequence[Target] | None = None) -> Predictions:
        """Run everything after the projection: encoder, query sources, decoder and heads."""
        memory = self.encoder(memory)
        predictions = self._predict(self.queries, memory, targets)
        if not self.training:
            return predictions
        auxiliary = {name: self._predict(source, memory, targets) for name, source in self.training_sources.items()}
        return replace(predictions, auxiliary={**predictions.auxiliary, **auxiliary})

    def _predict(self, source: nn.Module, memory: Memory, targets: Sequence[Target] | None) -> Predictions:
        queries = source(memory, self.heads, targets)
        if isinstance(queries, Predictions):
            return queries
        predictions: Predictions = self.heads(self.decoder(queries, memory, self.heads), queries)
        return predictions

    def optimize_for_inference(self, dtype: torch.dtype | None = None) -> AnchorDETR:
        """Return a copy that is fused for inference; see :func:`anchordetr.optimize.fuse.fuse`.

        Raises:
            ValueError: ``dtype`` is not a floating-point type.
        """
        return fuse(self, dtype)

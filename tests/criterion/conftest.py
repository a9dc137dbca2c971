"""Predictions without a network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from anchordetr.types import Predictions


@pytest.fixture
def predictions_of() -> Callable[[Tensor, Tensor], Predictions]:
    """Return predictions from logits (L, B, Q, K) and boxes (L, B, Q, 4), with anchors in the centre of the image."""

    def make(logits: Tensor, boxes: Tensor) -> Predictions:
        queries = logits.shape[2]
        return Predictions(logits, boxes, torch.full((logits.shape[1], queries, 2), 0.5), num_anchors=queries)

    return make

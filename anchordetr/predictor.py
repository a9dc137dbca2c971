"""Running a network on images without padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anchordetr.detections import Detections
from anchordetr.device import autocast
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.optimize.budget import Budget, apply_budget
from anchordetr.postprocess import postprocess
from anchordetr.types import ImageBatch

_WHOLE = Budget()


class PreparedCopy:
    """A network's fused copy, made at its first use and again after the weights have changed.

    Budgets take parts of the one copy.
    """

    def __init__(self) -> None:
        self._fused: AnchorDETR | None = None
        self._state: list[tuple[int, int]] = []

    def of(self, model: AnchorDETR, budget: Budget = _WHOLE) -> AnchorDETR:
        """Return the network fused for inference, or a budget's part of it.

        Raises:
            UsageError: the network has less than the budget asks for.
        """
        state = [(id(value), value._version) for value in (*model.parameters(), *model.buffers())]
        if self._fused is None or state != self._state:
            self._fused, self._state = model.optimize_for_inference(), state
        return apply_budget(self._fused, budget)

    def drop(self) -> None:
        """Forget the copy, for the sake of memory."""
        self._fused = None


@torch.inference_mode()
def detect(
    model: nn.Module, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]], precision: str = "fp32"
) -> list[Detections]:
    """Detect objects in prepared images; only images of one shape run together.

    Args:
        model: an :class:`~anchordetr.models.anchor_detr.AnchorDETR` in eval mode.
        images: normalised (3, H, W) images of any sizes.
        sizes: (height, width) in pixels of the images as the user knows them; boxes come in these.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Returns:
        The best 100 detections of each image, in the order given.
    """
    device = next(model.parameters()).device
    answers: dict[int, Detections] = {}
    for shape in sorted({image.shape for image in images}):
        members = [i for i, image in enumerate(images) if image.shape == shape]
        batch = ImageBatch.from_list([images[i] for i in members]).to(device)
        with autocast(device, precision):
            predictions = model(batch)
        answers.update(zip(members, postprocess(predictions, [sizes[i] for i in members]), strict=True))
    return [answers[i] for i in range(len(images))]

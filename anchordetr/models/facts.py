"""What users choose a preset by: size, operations, time and purpose; measured, and imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Latency = Literal["fast", "medium", "slow"]


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a preset with 80 classes.

    Attributes:
        parameters: number of weights, frozen ones included.
        flops: operations for one image of ``data.short_side`` × ``data.long_side`` pixels, as
            :func:`~anchordetr.profiling.model_flops.count_flops` counts them.
        relative_latency: time for an image on two CPU cores, as a multiple of that of ``anchordetr_r50_dc5``; the
            images and times are those of the column *fused* in docs/performance.md.
        best_for: what it suits, in a few words.
    """

    parameters: int
    flops: int
    relative_latency: float
    best_for: str

    @property
    def latency(self) -> Latency:
        """``fast`` up to a tenth of the time of ``anchordetr_r50_dc5``, ``medium`` up to its time, or ``slow``."""
        if self.relative_latency <= 0.1:
            return "fast"
        return "medium" if self.relative_latency <= 1 else "slow"


FACTS: dict[str, ModelFacts] = {
    "anchordetr_r50_c5": ModelFacts(37_089_004, 186_334_279_680, 0.58, "COCO classes in less time"),
    "anchordetr_r50_dc5": ModelFacts(37_089_004, 342_291_613_696, 1.0, "COCO classes; to fine-tune its weights"),
    "anchordetr_r101_c5": ModelFacts(56_081_132, 345_429_473_280, 0.89, "the paper's comparisons"),
    "anchordetr_r101_dc5": ModelFacts(56_081_132, 501_386_807_296, 1.4, "COCO classes, highest AP"),
    "anchordetr_tiny": ModelFacts(590_094, 119_410_688, 0.005, "trying out; images of 64 pixels"),
    "anchordetr_v2_r50_dc5": ModelFacts(37_467_720, 345_284_556_800, 1.3, "many own images, on a GPU"),
    "anchordetr_v2_small": ModelFacts(4_379_352, 1_869_293_440, 0.051, "a few hundred own images"),
    "anchordetr_v2_tiny": ModelFacts(2_516_828, 194_445_312, 0.013, "trying out all parts quickly"),
}

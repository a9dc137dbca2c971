"""COCO's metrics, which evaluation, training, logs, reports and ``metrics.json`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

STATISTICS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
"""COCO's twelve numbers in the order of ``COCOeval.stats``."""

LOSS_TERMS = ("class", "box", "giou")
"""Names of the three losses of a decoder layer."""


@dataclass(frozen=True)
class Details:
    """The data of the precision-recall curves and the confusion matrix of an evaluation.

    Attributes:
        precision: (101, K) at an IoU of 0.5 by recall and class, -1 where a class has no objects.
        threshold: lowest score of the detections in the confusion matrix, the one with the highest F1.
        confusion: computes the sparse :func:`~anchordetr.evaluation.confusion.confusion_matrix`.
        results: returns all detections as COCO results, with the data set's own ids, and names of files and classes.
    """

    precision: NDArray[np.float64]
    threshold: float
    confusion: Callable[[], sparse.csr_array]
    results: Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True)
class Metrics:
    """COCO's twelve numbers as fractions of 1, and AP per class; -1 where there are no objects.

    ``f1`` is the highest F1 of any threshold at an IoU of 0.5, ``threshold`` and ``class_thresholds`` are the
    thresholds where it is highest, of all classes together and of single ones.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    per_class: dict[str, float]
    f1: float = 0.0
    threshold: float = 0.5
    class_thresholds: dict[str, float] = field(default_factory=dict)
    details: Details | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the metrics from what :meth:`to_dict` returned; other keys are ignored, thresholds may be missing."""
        thresholds = {name: values[name] for name in ("f1", "threshold", "class_thresholds") if name in values}
        return cls(**{name: values[name] for name in (*STATISTICS, "per_class")}, **thresholds)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        return {name: value for name, value in vars(self).items() if name != "details"}

    def shown_classes(self, most: int = 100) -> tuple[dict[str, float], str]:
        """Return AP by class for a table of at most ``most`` rows, and a sentence about classes left out, if any.

        Of more classes, those with the highest and the lowest AP are returned.
        """
        if len(self.per_class) <= most:
            return self.per_class, ""
        ranked = sorted(self.per_class.items(), key=lambda item: item[1], reverse=True)
        known = [item for item in ranked if item[1] >= 0]
        shown = known if len(known) <= most else known[: most // 2] + known[-(most - most // 2) :]
        text = f"{len(shown)} of {len(ranked)} classes, with the highest and the lowest AP; metrics.json has all."
        return dict(shown), text

"""The score thresholds at which a detector's F1 is highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CANDIDATES = np.arange(1, 100) / 100
DEFAULT = 0.5
"""The threshold where nothing was evaluated or nothing was found."""


@dataclass(frozen=True)
class Thresholds:
    """The thresholds with the highest F1 = 2 · hits / (detections + objects), at an IoU of 0.5.

    Attributes:
        f1: the highest F1, of the detections of all classes together; 0 if no object was found.
        threshold: the one where it is reached.
        by_class: the best threshold of each class of which an object was found.
    """

    f1: float = 0.0
    threshold: float = DEFAULT
    by_class: dict[str, float] = field(default_factory=dict)


def best_thresholds(images: Sequence[Mapping[str, Any] | None], class_names: Sequence[str]) -> Thresholds:
    """Return the thresholds of 0.01, 0.02, ... 0.99 with the highest F1.

    Where several are equally good, the one in the middle of them is returned.

    Args:
        images: COCOeval's ``evalImgs`` of one area range, class by class, each with as many images; the first row of
            its matches is that of an IoU of 0.5.
        class_names: names of the classes.
    """
    size = len(images) // max(len(class_names), 1)
    counts = [_counts([image for image in images[k * size : (k + 1) * size] if image]) for k in range(len(class_names))]
    best = [_best(*count) for count in counts]
    by_class = {name: threshold for name, (f1, threshold) in zip(class_names, best, strict=True) if f1 > 0}
    f1, threshold = _best(*(sum(part, np.zeros(1)) for part in zip(*counts, strict=True))) if counts else (0.0, DEFAULT)
    return Thresholds(f1, threshold if f1 > 0 else DEFAULT, by_class)


def _counts(
    images: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the hits and the detections at each candidate, and the number of objects; crowds do not count."""
    nothing = np.zeros(0)
    is_counted = np.concatenate([nothing, *(~image["dtIgnore"][0] for image in images)]).astype(bool)
    is_hit = np.concatenate([nothing, *(image["dtMatches"][0] for image in images)])[is_counted] > 0
    scores = np.concatenate([nothing, *(image["dtScores"] for image in images)])[is_counted]
    objects = sum(int((image["gtIgnore"] == 0).sum()) for image in images)
    hits, detections = (
        len(chosen) - np.searchsorted(np.sort(chosen), CANDIDATES) for chosen in (scores[is_hit], scores)
    )
    return hits.astype(float), detections.astype(float), np.array([objects], float)


def _best(
    hits: NDArray[np.float64], detections: NDArray[np.float64], objects: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the highest F1 and its threshold."""
    f1 = 2 * hits / np.maximum(detections + objects, 1)
    equal = np.flatnonzero(f1 == f1.max())
    return float(f1.max()), float(CANDIDATES[equal[len(equal) // 2]])

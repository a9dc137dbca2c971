"""Options of a prediction and their checks: thresholds, classes, sizes of batches, number formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from anchordetr.device import PRECISIONS
from anchordetr.errors import UsageError, closest_match, limited

Threshold = float | Mapping[str, float] | None
"""The lowest score that is returned: of all classes, or by class name; None is the detector's own."""


class PredictOptions(TypedDict, total=False):
    """Options of :meth:`~anchordetr.detector.Detector.predict`, described there."""

    anchors: int | None
    patterns: int | Sequence[int] | None
    layers: int | None
    batch_size: int | None
    precision: str
    max_detections: int
    classes: Sequence[str] | None
    resolution: int | None


_SYNONYMS = {
    "imgsz": "resolution",
    "img_size": "resolution",
    "image_size": "resolution",
    "size": "resolution",
    "conf": "threshold",
    "confidence": "threshold",
    "score": "threshold",
    "batch": "batch_size",
    "bs": "batch_size",
    "half": "precision",
    "max_det": "max_detections",
    "top_k": "max_detections",
    "save": "detections.plot(path)",
    "device": "detector.to(device)",
    "iou": "nothing: the detector predicts each object once, without NMS",
}
"""What other libraries' arguments of a prediction are here."""


def known_options(options: PredictOptions) -> PredictOptions:
    """Return options whose names exist.

    Raises:
        UsageError: one does not; the message names what is meant.
    """
    known = [*PredictOptions.__annotations__, "threshold", "keep_images"]
    for name in options:
        if name not in PredictOptions.__annotations__:
            meant = f" It is {_SYNONYMS[name]} here." if name in _SYNONYMS else closest_match(name, known)
            raise UsageError(f"predict has no argument '{limited(name)}'.{meant}")
    return options


def class_thresholds(threshold: Threshold, names: Sequence[str], default: float) -> NDArray[np.float32]:
    """Return the threshold of each class, (K,).

    Args:
        threshold: one score, or scores by class name. default: for all classes that have none.

    Raises:
        UsageError: a score is not a number from 0 to 1, or a class is unknown.
    """
    if threshold is None or not isinstance(threshold, Mapping):
        return np.full(len(names), require_score(default if threshold is None else threshold), np.float32)
    scores = {name: require_score(score, f"threshold of '{limited(name)}'") for name, score in threshold.items()}
    _require_known(scores, names)
    return np.array([scores.get(name, default) for name in names], np.float32)


def require_score(value: object, name: str = "threshold") -> float:
    """Check that a value is a score, and return it.

    Raises:
        UsageError: it is not a number from 0 to 1.
    """
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if is_number and 0 <= (score := float(cast(float, value))) <= 1:
        return score
    shown = limited(value) if is_number else f"of type {type(value).__name__}"
    raise UsageError(f"The {name} is {shown}; it must be a score from 0 to 1, for example 0.5.")


def class_indices(classes: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the indices of classes by their names.

    Raises:
        UsageError: a name is unknown, or there is none.
    """
    if isinstance(classes, str) or not classes:
        raise UsageError("classes must be a list of at least one class name.")
    _require_known(classes, names)
    return [index for index, name in enumerate(names) if name in classes]


def _require_known(classes: Iterable[str], names: Sequence[str]) -> None:
    for name in classes:
        if name not in names:
            raise UsageError(f"This model has no class '{limited(name)}'.{closest_match(str(name), names)}")


def require_count(name: str, value: object) -> None:
    """Check that an option is a positive whole number.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {limited(value)}; it must be a whole number of at least 1.")


def require_precision(precision: str) -> None:
    """Check the name of a number format.

    Raises:
        UsageError: it is unknown.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is '{limited(precision)}'; it must be one of {', '.join(PRECISIONS)}.")

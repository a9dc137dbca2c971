"""Where the objects of a data set are: points that stand for the centres of its boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import vq

from anchordetr.data.dataset import AnnotationTable

_SAMPLE = 50_000
_ROUNDS = 20


def box_centres(annotations: AnnotationTable, flips: Sequence[str] = ()) -> NDArray[np.float64]:
    """Return the centres of all boxes but those of crowds, no image is read.

    Args:
        annotations: of the data set.
        flips: ``horizontal``, ``vertical``: each adds the mirrored centres, as training sees them as often.

    Returns:
        (T, 2) x, y as fractions of the image.
    """
    alone = ~annotations.crowd
    sizes = annotations.sizes[annotations.rows()][alone][:, ::-1]
    boxes = annotations.boxes[alone].astype(np.float64)
    centres = ((boxes[:, :2] + boxes[:, 2:] / 2) / sizes).clip(0.0, 1.0)
    for flip in flips:
        axis = ("horizontal", "vertical").index(flip)
        mirrored = centres.copy()
        mirrored[:, axis] = 1.0 - mirrored[:, axis]
        centres = np.concatenate([centres, mirrored])
    return centres


def representatives(centres: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """Return ``count`` points that stand for many: the means of k-means (Lloyd), begun at centres drawn at random.

    Of more than 50,000 centres so many are drawn first. Where there are at most ``count`` different centres, all are
    returned, and uniformly drawn points beside them.

    Args:
        centres: (T, 2) in [0, 1]. count: A. seed: of what is drawn; the same seed gives the same points.

    Returns:
        (A, 2).
    """
    rng = np.random.default_rng(seed)
    if len(centres) > _SAMPLE:
        centres = rng.choice(centres, _SAMPLE, replace=False)
    different = np.unique(centres, axis=0)
    if len(different) <= count:
        return np.concatenate([different, rng.random((count - len(different), 2))])
    means = rng.choice(different, count, replace=False)
    for _ in range(_ROUNDS):
        nearest, _ = vq(centres, means)
        members = np.bincount(nearest, minlength=count)
        sums = np.stack([np.bincount(nearest, weights=axis, minlength=count) for axis in centres.T], axis=1)
        means = np.where(members[:, None] > 0, sums / members[:, None].clip(min=1), means)
    return means

"""Centres of a data set's boxes, and their k-means clusters: initial anchors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from anchordetr.data.dataset import AnnotationTable

_SAMPLE = 50_000
_ITERATIONS = 20


def box_centres(annotations: AnnotationTable, flips: Sequence[str] = ()) -> NDArray[np.float64]:
    """Return the centres of all boxes except crowds, from the annotations.

    Args:
        annotations: of the data set.
        flips: ``horizontal``, ``vertical``: each adds the mirrored centres, which training sees equally often.

    Returns:
        (T, 2) x, y as fractions of the image.
    """
    single = ~annotations.crowd
    sizes = annotations.sizes[annotations.rows()][single][:, ::-1]
    boxes = annotations.boxes[single].astype(np.float64)
    centres = ((boxes[:, :2] + boxes[:, 2:] / 2) / sizes).clip(0.0, 1.0)
    for flip in flips:
        axis = ("horizontal", "vertical").index(flip)
        mirrored = centres.copy()
        mirrored[:, axis] = 1.0 - mirrored[:, axis]
        centres = np.concatenate([centres, mirrored])
    return centres


def representatives(centres: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """Return ``count`` k-means cluster centres of the given points, initialised with random ones of them.

    Of more than 50,000 points, a random sample of 50,000 is used. If at most ``count`` points are distinct, all of
    them are returned, followed by uniformly random points.

    Args:
        centres: (T, 2) in [0, 1].
        count: A, the number of cluster centres.
        seed: the same seed gives the same result.

    Returns:
        (A, 2).
    """
    rng = np.random.default_rng(seed)
    if len(centres) > _SAMPLE:
        centres = rng.choice(centres, _SAMPLE, replace=False)
    distinct = np.unique(centres, axis=0)
    if len(distinct) <= count:
        return np.concatenate([distinct, rng.random((count - len(distinct), 2))])
    with warnings.catch_warnings(action="ignore"):  # an empty cluster keeps its centre
        means, _ = kmeans2(centres, rng.choice(distinct, count, replace=False), iter=_ITERATIONS, minit="matrix")
    return np.asarray(means)

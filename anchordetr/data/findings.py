"""Problems of a data set: their kinds, their severity, and the message for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from anchordetr.console import printable
from anchordetr.errors import listed

Severity = Literal["error", "repaired", "warning", "note"]

_NAMED = 10
_NAMED_IN_ERRORS = 100


class Kind(NamedTuple):
    """One kind of problem. An ``error`` stops loading, ``repaired`` is fixed with a warning, the rest is reported."""

    severity: Severity
    description: str
    advice: str


_FIX = "Correct the annotations, or write a repaired copy with anchordetr doctor --fix."
KINDS = {
    "missing_image": Kind("error", "missing images", "Restore the files, or correct their names."),
    "unreadable_image": Kind(
        "error", "images that cannot be read", "Replace them, or leave them out with --set data.skip_broken=true."
    ),
    "wrong_size": Kind("error", "images of another size than their annotations say", _FIX),
    "duplicate_image_id": Kind("error", "image ids used by several images", _FIX),
    "duplicate_annotation_id": Kind("error", "annotation ids used several times", _FIX),
    "unknown_category": Kind("error", "annotations of a category that is not listed", _FIX),
    "not_a_number": Kind("error", "annotations whose bbox is not four finite numbers", _FIX),
    "unlisted_image": Kind("repaired", "annotations of images that are not listed, left out", ""),
    "no_area": Kind("repaired", "boxes without area inside their image, dropped", ""),
    "outside": Kind("repaired", "boxes that extend beyond their image, clipped", ""),
    "looks_like_xyxy": Kind(
        "warning", "boxes that are valid as x1, y1, x2, y2 but not as x, y, width, height", "Check the box format."
    ),
    "duplicate_box": Kind("warning", "duplicate boxes of the same class", ""),
    "too_many_objects": Kind(
        "warning", "images with more objects than the model has queries", "Raise model.num_anchors."
    ),
    "class_mismatch": Kind("error", "splits whose classes differ from the first", "Give all splits the same classes."),
    "zero_id": Kind("note", "annotations with the id 0, which some tools treat as no annotation", ""),
    "class_without_boxes": Kind("note", "classes without a box", ""),
    "imbalance": Kind("note", "classes with less than a hundredth of the boxes of the largest", ""),
    "duplicate_image": Kind("warning", "duplicate images in one split", ""),
    "shared_image": Kind(
        "warning", "images that are also in another split", "Metrics on a shared image are too optimistic."
    ),
    "unlabelled_image": Kind("warning", "images without a label file, used as images without objects", ""),
    "unannotated_image": Kind("warning", "images without an annotation file, left out", ""),
    "orphan_labels": Kind("warning", "annotation files without an image, left out", ""),
    "shared_labels": Kind("warning", "images that share one label file", "Give the images different names."),
    "unread_format": Kind("warning", "images in formats that are not read, left out", "Convert them to JPEG or PNG."),
    "skipped": Kind("repaired", "images that cannot be read, skipped", ""),
    "unusable": Kind("error", "splits that cannot be read", ""),
    "no_splits": Kind("error", "data sets without a split that can be read", "Check the layout and the annotations."),
    "no_val": Kind("note", "no split for validation, which training needs", ""),
    "no_images": Kind("error", "splits without images", "Check the annotations."),
    "no_boxes": Kind("warning", "splits without boxes", "Check the annotations."),
    "reading": Kind("note", "remarks of the reader", ""),
}


@dataclass(frozen=True)
class Finding:
    """One problem of a data set, with the images, annotations or classes that have it.

    Attributes:
        kind: a key of ``KINDS``.
        names: all images, annotations or classes that have the problem.
        images: rows of the images concerned, if there are any.
    """

    kind: str
    names: Sequence[str]
    images: Sequence[int] = ()

    def sentence(self, source: object) -> str:
        """Return one line: the source, the problem, the count, the first names, and advice."""
        severity, description, advice = KINDS[self.kind]
        limit = _NAMED_IN_ERRORS if severity == "error" else _NAMED
        return printable(f"{source}: {description}: {len(self.names)} ({listed(self.names, limit)}). {advice}".rstrip())

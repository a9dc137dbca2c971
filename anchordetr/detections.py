"""Detections: the objects found in one image; numpy and Pillow only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anchordetr.errors import InputError

if TYPE_CHECKING:
    import supervision
    from PIL import Image


@dataclass
class Detections:
    """The objects found in one image, most confident first; fields as in ``supervision.Detections``.

    Attributes:
        xyxy: (n, 4) float32 x1, y1, x2, y2 in pixels of the image as given.
        confidence: (n,) float32 scores in [0, 1]. class_id: (n,) int64 class indices.
        anchor_xy: (n, 2) float32, the anchor in pixels that each detection came from. pattern_id: (n,) int64.
        data: arrays of n more values each: ``class_name``, and ``category_id``, the data set's own id.
        image: (H, W, 3) uint8 RGB, a copy of the image, if it was kept.
        source: the file or address the image came from, if there was one.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    anchor_xy: NDArray[np.float32]
    pattern_id: NDArray[np.int64]
    data: dict[str, NDArray[Any]] = field(default_factory=dict)
    image: NDArray[np.uint8] | None = None
    source: str | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Return the detections selected by a slice, a mask or indices: copies, with the same image."""
        return Detections(
            self.xyxy[rows].copy(),
            self.confidence[rows].copy(),
            self.class_id[rows].copy(),
            self.anchor_xy[rows].copy(),
            self.pattern_id[rows].copy(),
            {key: values[rows].copy() for key, values in self.data.items()},
            self.image,
            self.source,
        )

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the boxes with names and scores on the image, and save it if a path is given.

        Raises:
            InputError: ``image`` is None.
        """
        from PIL import Image

        from anchordetr.drawing import draw_boxes

        if self.image is None:
            raise InputError("These detections hold no image; to plot them, set image to an RGB uint8 array (H, W, 3).")
        names = self.data.get("class_name", self.class_id.astype(str))
        labels = [f"{name} {score:.2f}" for name, score in zip(names, self.confidence, strict=True)]
        drawn = Image.fromarray(self.image)
        draw_boxes(drawn, self.xyxy, labels, self.class_id)
        if path is not None:
            drawn.save(path)
        return drawn

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO results: ``image_id``, ``category_id``, ``bbox`` (x, y, w, h in pixels) and ``score`` each."""
        categories = self.data.get("category_id", self.class_id)
        return [
            {
                "image_id": image_id,
                "category_id": int(category),
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": float(score),
            }
            for (x1, y1, x2, y2), category, score in zip(self.xyxy, categories, self.confidence, strict=True)
        ]

    def to_supervision(self) -> supervision.Detections:
        """Return ``supervision.Detections`` with copies of the fields; anchors and patterns are in its ``data``.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            from supervision import Detections as SupervisionDetections
        except ImportError as error:
            raise ImportError("supervision is not installed; run: pip install 'anchordetr[supervision]'") from error
        own = self[:]
        data = {**own.data, "anchor_xy": own.anchor_xy, "pattern_id": own.pattern_id}
        return SupervisionDetections(
            xyxy=own.xyxy, confidence=own.confidence, class_id=own.class_id.astype(int), data=data
        )

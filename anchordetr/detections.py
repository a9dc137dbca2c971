"""Detections: the objects found in one image; numpy and Pillow only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from anchordetr.errors import InputError, limited, listed, reason

if TYPE_CHECKING:
    import pandas
    import supervision
    from PIL import Image

Rows: TypeAlias = "int | np.integer[Any] | slice | Sequence[int] | NDArray[np.bool_] | NDArray[np.integer[Any]]"
"""One row, a slice, a mask (n,), or the indices of rows."""

_NAMED = 8


@dataclass(repr=False, eq=False)
class Detections:
    """The objects found in one image, most confident first; fields as in ``supervision.Detections``.

    ``detections[0]``, slices, masks and lists of indices select rows, and iterating yields one row after the other;
    each is a ``Detections`` of its own. ``detections["class_name"]`` is an array of ``data``.

    Attributes:
        xyxy: (n, 4) float32 x1, y1, x2, y2 in pixels of the image as given.
        confidence: (n,) float32 scores in [0, 1]. class_id: (n,) int64 class indices.
        anchor_xy: (n, 2) float32, the anchor in pixels that each detection came from. pattern_id: (n,) int64.
        data: arrays of n more values each: ``class_name``, and ``category_id``, the data set's own id.
        image: (H, W, 3) uint8 RGB, a copy of the image, if it was kept.
        source: the file or address the image came from, if there was one.
        size: height and width of the image in pixels, if known.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    anchor_xy: NDArray[np.float32]
    pattern_id: NDArray[np.int64]
    data: dict[str, NDArray[Any]] = field(default_factory=dict)
    image: NDArray[np.uint8] | None = None
    source: str | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[Detections]:
        """Yield one row after the other, each as detections of length one."""
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, rows: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, rows: Rows) -> Detections: ...
    def __getitem__(self, rows: str | Rows) -> NDArray[Any] | Detections:
        """Return the detections of some rows: copies, with the same image; for a text the array ``data[text]``.

        Raises:
            IndexError: there is no such row.
            KeyError: ``data`` has no such array.
        """
        if isinstance(rows, str):
            if rows not in self.data:
                raise KeyError(
                    f"data has no '{limited(rows)}'; it has {listed(sorted(self.data), _NAMED) or 'nothing'}."
                )
            return self.data[rows]
        chosen: Any = [rows] if isinstance(rows, (int, np.integer)) else rows
        if not isinstance(chosen, slice) and np.ndim(chosen) != 1:
            raise IndexError("Rows are a number, a slice, a mask or a list of numbers.")
        return Detections(
            self.xyxy[chosen].copy(),
            self.confidence[chosen].copy(),
            self.class_id[chosen].copy(),
            self.anchor_xy[chosen].copy(),
            self.pattern_id[chosen].copy(),
            {key: values[chosen].copy() for key, values in self.data.items()},
            self.image,
            self.source,
            self.size,
        )

    def __repr__(self) -> str:
        counts = Counter(map(str, self._names())).most_common()
        facts = [listed([f"{count} {name}" for name, count in counts], _NAMED) or "nothing"]
        facts += [f"{self.size[1]}x{self.size[0]}"] if self.size else []
        facts += [limited(self.source)] if self.source else []
        return f"Detections({'; '.join(facts)})"

    def _names(self) -> NDArray[Any]:
        """Return the class names, or the class indices as text."""
        return self.data.get("class_name", self.class_id.astype(str))

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the boxes with names and scores on the image, and save it if a path is given.

        Raises:
            InputError: ``image`` is None, or ``path`` cannot be written or names no format of images.
        """
        from PIL import Image

        from anchordetr.drawing import draw_boxes

        if self.image is None:
            raise InputError(_NO_IMAGE)
        labels = [f"{name} {score:.2f}" for name, score in zip(self._names(), self.confidence, strict=True)]
        drawn = Image.fromarray(self.image)
        draw_boxes(drawn, self.xyxy, labels, self.class_id)
        if path is not None:
            try:
                drawn.save(path)
            except (OSError, ValueError) as error:  # no folder, or no format of this name
                raise InputError(f"The image cannot be saved as {path}: {reason(error)}.") from error
        return drawn

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: source, height and width, and a dictionary for each detection.

        A detection has the keys ``class_name``, ``class_id``, ``category_id``, ``confidence``, ``xyxy`` (pixels),
        ``anchor_xy`` (pixels) and ``pattern_id``, and those that were added to ``data``.
        """
        columns: dict[str, NDArray[Any]] = {
            "class_id": self.class_id,
            "confidence": self.confidence,
            "xyxy": self.xyxy,
            **self.data,
        }
        columns |= {"anchor_xy": self.anchor_xy, "pattern_id": self.pattern_id}
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        height, width = self.size or (None, None)
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        return {"source": self.source, "height": height, "width": width, "detections": found}

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON on one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table with one row per detection: x1, y1, x2, y2, confidence, classes, anchor and pattern.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise ImportError("pandas is not installed; run: pip install 'anchordetr[pandas]'") from error
        own = self[:]
        corners = dict(zip(("x1", "y1", "x2", "y2"), own.xyxy.T, strict=True))
        anchors = {"anchor_x": own.anchor_xy[:, 0], "anchor_y": own.anchor_xy[:, 1], "pattern_id": own.pattern_id}
        return DataFrame({**corners, "confidence": own.confidence, "class_id": own.class_id, **own.data, **anchors})

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


_NO_IMAGE = (
    "These detections hold no image, since predict keeps those of a list or a folder only if told to; call "
    "predict(..., keep_images=True), or set detections.image to an RGB uint8 array (H, W, 3)."
)

"""The data set interface: images and their annotations, in memory that worker processes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anchordetr.data.ids import id_array


class ImageRecord(NamedTuple):
    """One image and its objects.

    Attributes:
        image_id: the data set's own id. file_name: relative to the data set. height, width: pixels of the upright
            image.
        boxes: (T, 4) x, y, w, h in pixels. labels: (T,) class indices. areas: (T,) pixels², for the size classes of
            evaluation. crowd: (T,) True where one box covers a group of objects (COCO's ``iscrowd``).
    """

    image_id: int
    file_name: str
    height: int
    width: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]


class Names:
    """A sequence of n strings in two arrays: all UTF-8 bytes, and n + 1 offsets of their starts and ends."""

    def __init__(self, letters: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.letters = letters
        self.ends = ends

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Return the packed strings."""
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        ends = np.cumsum([0, *(len(name) for name in encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    def __getitem__(self, index: int | np.integer[Any]) -> str:
        return self.letters[self.ends[index] : self.ends[index + 1]].tobytes().decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class AnnotationTable:
    """The records of a data set as columns: I images, T annotations in all.

    Forked workers share the memory pages of the arrays instead of copying Python objects. Spawned workers map one copy
    in shared memory.

    Attributes:
        image_ids: (I,), int64, or Python integers where an id needs more. file_names: (I,).
        sizes: (I, 2) height, width in pixels.
        starts: (I + 1,) row of the first annotation of each image, and T.
        boxes: (T, 4) x, y, w, h in pixels. labels, areas, crowd: (T,) as in :class:`ImageRecord`.
    """

    image_ids: NDArray[Any]
    file_names: Names
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]

    @classmethod
    def of(cls, records: Sequence[ImageRecord]) -> Self:
        """Return the table of some records."""
        counts = [len(record.labels) for record in records]
        return cls(
            image_ids=id_array([record.image_id for record in records]),
            file_names=Names.of([record.file_name for record in records]),
            sizes=np.array([(record.height, record.width) for record in records], dtype=np.int64).reshape(-1, 2),
            starts=np.cumsum([0, *counts]),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in records)]),
            labels=np.concatenate([np.zeros(0, np.int64), *(record.labels for record in records)]),
            areas=np.concatenate([np.zeros(0, np.float32), *(record.areas for record in records)]),
            crowd=np.concatenate([np.zeros(0, np.bool_), *(record.crowd for record in records)]),
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> ImageRecord:
        rows = slice(self.starts[index], self.starts[index + 1])
        return ImageRecord(
            image_id=int(self.image_ids[index]),
            file_name=self.file_names[index],
            height=int(self.sizes[index, 0]),
            width=int(self.sizes[index, 1]),
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            areas=self.areas[rows],
            crowd=self.crowd[rows],
        )

    @property
    def ratios(self) -> NDArray[np.float64]:
        """Height over width of each image, (I,)."""
        return self.sizes[:, 0] / self.sizes[:, 1]

    def rows(self) -> NDArray[np.int64]:
        """Return the row of each annotation's image, (T,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @cached_property
    def _shared(self) -> dict[str, Any]:
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "file_names"}
        arrays |= {"letters": self.file_names.letters, "ends": self.file_names.ends}
        return {
            name: array if array.dtype == object else torch.tensor(array).share_memory_()
            for name, array in arrays.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        return self._shared

    def __setstate__(self, columns: dict[str, Any]) -> None:
        arrays = {name: np.asarray(column) for name, column in columns.items()}
        names = Names(arrays.pop("letters"), arrays.pop("ends"))
        self.__dict__.update(arrays, file_names=names)


class DetectionDataset(ABC):
    """One split of a data set.

    Attributes:
        class_names, category_ids: name and the data set's own id of each class index.
        annotations: the records of all images.
    """

    class_names: list[str]
    category_ids: list[int]
    annotations: AnnotationTable

    def __len__(self) -> int:
        return len(self.annotations)

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 RGB (3, H, W), upright.

        Raises:
            InputError: the file cannot be read.
        """

    def ground_truth(self) -> dict[str, Any]:
        """Return all annotations as a COCO dictionary with the data set's own image and category ids."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(len(self)):
            record = self.annotations[index]
            images.append(
                {
                    "id": record.image_id,
                    "file_name": record.file_name,
                    "height": record.height,
                    "width": record.width,
                }
            )
            for box, label, area, crowd in zip(record.boxes, record.labels, record.areas, record.crowd, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": record.image_id,
                        "category_id": self.category_ids[label],
                        "bbox": [float(side) for side in box],
                        "area": float(area),
                        "iscrowd": int(crowd),
                    }
                )
        categories = [
            {"id": category_id, "name": name}
            for category_id, name in zip(self.category_ids, self.class_names, strict=True)
        ]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

"""What ``anchordetr predict`` writes about images: JSON, COCO, YOLO labels, crops and annotated images."""

from __future__ import annotations

import json
import logging
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from anchordetr.data.fetch import is_address
from anchordetr.detections import Detections
from anchordetr.errors import InputError, reason
from anchordetr.files import safe_name, write_json, write_text

Categories = list[dict[str, Any]]
"""``id`` and ``name`` of each class index."""

WHOLE_FILES = ("predictions.json", "predictions.jsonl", "coco.json", "classes.txt")
"""Names of files that are written once for all images."""

_MOST_PIXELS_OF_JPEG = 65_500  # of a side

log = logging.getLogger("anchordetr")


class Format:
    """Writes the results of one image after the other to a folder; existing files of the same names are replaced.

    Attributes:
        needs_images: whether the detections must hold their image.
    """

    needs_images = False

    def __init__(self, folder: Path, categories: Categories) -> None:
        self.folder = folder
        self.categories = categories
        self._taken: set[str] = set()

    def add(self, image_id: int, found: Detections) -> Path | None:
        """Write the results of an image, and return the file if it is one that people look at."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what is written as a whole."""

    def name(self, found: Detections, prefix: str = "", suffix: str = "") -> str:
        """Return a file name that no other image of this format has: ``{prefix}{name of the image}{suffix}``."""
        source = str(found.source)
        path = unquote(urlsplit(source).path) if is_address(source) else source
        return safe_name(f"{prefix}{PurePosixPath(path).stem}{suffix}", self._taken)


class Json(Format):
    """``predictions.json``: COCO results with names of files and classes; ``predictions.jsonl`` as they come."""

    def __init__(self, folder: Path, categories: Categories) -> None:
        super().__init__(folder, categories)
        self.results: list[dict[str, Any]] = []
        self._file, self._lines_file = folder / "predictions.json", folder / "predictions.jsonl"
        self._lines = self._lines_file.open("w", encoding="utf-8", errors="backslashreplace")

    def add(self, image_id: int, found: Detections) -> None:
        results = results_of(image_id, found)
        self.results += results
        self._lines.writelines(json.dumps(result, ensure_ascii=False) + "\n" for result in results)
        self._lines.flush()

    def close(self) -> None:
        try:
            try:
                self._lines.close()
            finally:
                write_json(self._file, self.results)
        except OSError as failure:
            raise InputError(
                f"{self._file} could not be written ({failure.strerror or failure}); the results that could be are "
                f"in {self._lines_file}, one on each line."
            ) from failure


class Coco(Format):
    """``coco.json``: a data set in COCO's format, with all images, also those without detections, and a score each."""

    def __init__(self, folder: Path, categories: Categories) -> None:
        super().__init__(folder, categories)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image_id: int, found: Detections) -> None:
        height, width = found.size or (0, 0)
        self._images.append({"id": image_id, "file_name": str(found.source), "height": height, "width": width})
        for result in found.to_coco(image_id):
            area = result["bbox"][2] * result["bbox"][3]
            self._annotations.append({"id": len(self._annotations) + 1, **result, "area": area, "iscrowd": 0})

    def close(self) -> None:
        content = {"info": {}, "images": self._images, "annotations": self._annotations, "categories": self.categories}
        write_json(self.folder / "coco.json", content)


class YoloText(Format):
    """``labels/NAME.txt``: class index, center, size as fractions, and score on a line; ``classes.txt`` has names."""

    def __init__(self, folder: Path, categories: Categories) -> None:
        super().__init__(folder, categories)
        self._labels = folder / "labels"
        self._labels.mkdir(exist_ok=True)
        names = (" ".join(str(category["name"]).split()) for category in categories)
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in names))

    def add(self, image_id: int, found: Detections) -> None:
        height, width = found.size or (1, 1)
        lines = [
            f"{label} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
            f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f} {score:.6f}\n"
            for label, (x1, y1, x2, y2), score in zip(found.class_id, found.xyxy, found.confidence, strict=True)
        ]
        write_text(self._labels / self.name(found, suffix=".txt"), "".join(lines))


class Crops(Format):
    """``crops/CLASS/0001_NAME_1.jpg``: each detection cut out of its image."""

    needs_images = True

    def __init__(self, folder: Path, categories: Categories) -> None:
        super().__init__(folder, categories)
        names: set[str] = set()
        self._folders = [folder / "crops" / safe_name(str(category["name"]), names) for category in categories]

    def add(self, image_id: int, found: Detections) -> None:
        assert found.image is not None
        height, width = found.image.shape[:2]
        corners = found.xyxy.round().astype(int).clip(0, (width, height, width, height))
        for number, (label, (x1, y1, x2, y2)) in enumerate(zip(found.class_id, corners, strict=True), start=1):
            if x2 > x1 and y2 > y1:
                self._folders[label].mkdir(parents=True, exist_ok=True)
                name = self.name(found, f"{image_id:04d}_", f"_{number}{_suffix(max(x2 - x1, y2 - y1))}")
                Image.fromarray(found.image[y1:y2, x1:x2]).save(self._folders[label] / name)


class AnnotatedImages(Format):
    """``0001_NAME.jpg``: the image with its boxes drawn; a warning where that fails."""

    needs_images = True

    def add(self, image_id: int, found: Detections) -> Path | None:
        suffix = _suffix(0 if found.image is None else max(found.image.shape))
        file = self.folder / self.name(found, f"{image_id:04d}_", suffix)
        try:
            found.plot(file)
        except Exception as error:  # a full disk, or what fonts and encoders raise
            log.warning("%s was not drawn: %s.", found.source, reason(error))
            return None
        return file


FORMATS: dict[str, type[Format]] = {
    "json": Json,
    "coco": Coco,
    "yolo-txt": YoloText,
    "crops": Crops,
    "images": AnnotatedImages,
}


def results_of(image_id: int, found: Detections) -> list[dict[str, Any]]:
    """Return the COCO results of an image, with the names of its file and of the classes."""
    names = found["class_name"].tolist()
    return [
        {**result, "file_name": str(found.source), "class_name": name}
        for result, name in zip(found.to_coco(image_id), names, strict=True)
    ]


def _suffix(side: int) -> str:
    """Return the format of an image whose longer side has so many pixels."""
    return ".jpg" if side <= _MOST_PIXELS_OF_JPEG else ".png"

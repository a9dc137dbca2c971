"""The files of ``anchordetr predict``: results as they come, all of them at the end, and drawn images."""

from __future__ import annotations

import json
import logging
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from anchordetr.data.fetch import is_address
from anchordetr.detections import Detections
from anchordetr.disk import make_writable_folder
from anchordetr.errors import InputError, reason
from anchordetr.files import require_replaceable, safe_name, write_json

_MOST_PIXELS_OF_JPEG = 65_500  # of a side

log = logging.getLogger("anchordetr")


class PredictionFiles:
    """Writes results to a folder; use it as a context manager.

    ``predictions.jsonl`` gets each result on a line of its own as soon as it is found. ``predictions.json`` holds all
    of them; it is written when the context ends, also by an error or an interruption.

    Args:
        folder: is created; existing files of the same names are replaced.

    Raises:
        WriteError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: list[dict[str, Any]] = []
        self.json_file = folder / "predictions.json"
        self._lines_file = folder / "predictions.jsonl"
        self._names = {self.json_file.name, self._lines_file.name}
        make_writable_folder(folder)
        for file in (self.json_file, self._lines_file):
            require_replaceable(file)

    def __enter__(self) -> Self:
        self._lines = self._lines_file.open("w", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            try:
                self._lines.close()
            finally:
                write_json(self.json_file, self.results)
        except OSError as failure:
            raise InputError(
                f"{self.json_file} could not be written ({failure.strerror or failure}); the results that could be are "
                f"in {self._lines_file}, one on each line."
            ) from failure

    def add(self, image_id: int, detections: Detections) -> Path | None:
        """Write the results of one image and draw it; return the drawing, None after a warning if that failed."""
        name = str(detections.source)
        results = [{**result, "file_name": name} for result in detections.to_coco(image_id)]
        self.results += results
        self._lines.writelines(json.dumps(result, ensure_ascii=False) + "\n" for result in results)
        self._lines.flush()
        drawing = self.folder / self._drawing_name(image_id, name, detections)
        try:
            detections.plot(drawing)
        except Exception as error:  # a full disk, or what fonts and encoders raise
            log.warning("%s was not drawn: %s.", name, reason(error))
            return None
        return drawing

    def _drawing_name(self, image_id: int, name: str, detections: Detections) -> str:
        path = unquote(urlsplit(name).path) if is_address(name) else name
        fits = detections.image is None or max(detections.image.shape) <= _MOST_PIXELS_OF_JPEG
        return safe_name(f"{image_id:04d}_{PurePosixPath(path).stem}{'.jpg' if fits else '.png'}", self._names)

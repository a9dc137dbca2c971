"""Label files of the YOLO layout: boxes, polygons, poses and oriented boxes, told apart before they are read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from anchordetr.data.layouts.yolo_settings import YoloSettings
from anchordetr.errors import InputError
from anchordetr.files import MEBIBYTE, read_text

_LABELS_LIMIT = 64 * MEBIBYTE
_LARGEST_FRACTION = 2.0  # larger numbers are pixels, not rounding errors
_CATEGORY = re.compile(r"([+-]?[0-9]{1,18})(\.0*)?")  # float arrays are written as 0.0
_CORNERS = 8  # numbers of an oriented box
_MANY = 10  # labels; so many polygons hardly ever have the same number of points
_ROUNDING = 1e-6  # of the image
_SLACK = 0.05  # of the image; keypoints lie in their box but for rounding

Box = tuple[float, float, float, float]


class Label(NamedTuple):
    """One line of a label file.

    Attributes:
        category: the class id.
        box: x, y, w, h as fractions of the image; NaN if a number is not finite.
        name: the line's name in messages.
        numbers: how many numbers the line has besides the class id.
        certain: whether the line can only be read as it was.
        like_keypoints: whether the line makes sense as a box and keypoints inside of it.
        with_point: whether the class id is written as a whole float.
    """

    category: int
    box: Box
    name: str
    numbers: int
    certain: bool
    like_keypoints: bool
    with_point: bool

    def in_pixels(self, size: tuple[int, int]) -> Box:
        """Return x, y, w, h in pixels of an image of a height and width."""
        height, width = size
        x, y, w, h = self.box
        return x * width, y * height, w * width, h * height


def read_labels(file: Path, name: str, settings: YoloSettings) -> Iterator[Label]:
    """Yield the labels of a file.

    Raises:
        InputError: the file cannot be read, or a line has another format; the message names the line.
    """
    for number, line in enumerate(read_text(file, _LABELS_LIMIT).splitlines(), start=1):
        if line.strip():
            yield _label(line, f"{file} line {number}", f"{name} line {number}", settings)


def check_format(labels: Sequence[Label], settings: YoloSettings) -> None:
    """Check that labels without a ``task`` in ``data.yaml`` are polygons, not poses or oriented boxes.

    Polygons differ in their number of points. Oriented boxes always have four corners, and all poses of a data set have
    the same number of keypoints. Four points that are an upright rectangle, and points that end where they start, are
    polygons.

    Raises:
        InputError: the labels can be something else; the message says what to write into ``data.yaml``.
    """
    lengths = {label.numbers for label in labels if label.numbers > 4}
    doubtful = [label for label in labels if not label.certain]
    if settings.task in ("segment", "pose", "obb") or len(lengths) != 1 or not doubtful:
        return
    numbers = lengths.pop()
    oriented = numbers == _CORNERS and all(label.numbers == _CORNERS for label in labels)
    keypoints = sum(label.like_keypoints for label in doubtful) * 2 >= len(doubtful)
    if oriented or keypoints or len(doubtful) >= _MANY:
        raise InputError(
            f"{settings.file} does not say what the {numbers + 1} values of {doubtful[0].name} are, and all lines of "
            "more than five values have this number: polygons, oriented boxes or poses. Add 'task: segment' or "
            "'task: obb' to it, or 'kpt_shape: [keypoints, 2 or 3]' for poses."
        )


def _label(line: str, where: str, name: str, settings: YoloSettings) -> Label:
    words = line.split()
    category = _CATEGORY.fullmatch(words[0])
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        category = None
    if category is None or "_" in line or not line.isascii():
        raise InputError(f"{where}: expected a class id and numbers; got '{' '.join(words)[:60]}'.")
    _check_length(len(words), where, settings)
    is_box = len(numbers) == 4 or settings.task == "pose"
    used = numbers[:4] if is_box else numbers
    largest = max(used, key=abs)
    if abs(largest) > _LARGEST_FRACTION:
        raise InputError(f"{where}: coordinates must be fractions of the image, not pixels; got {largest:g}.")
    box = _centred(*numbers[:4]) if is_box else _enclosing(numbers)
    certain = is_box or numbers[:2] == numbers[-2:] or _is_upright(numbers)
    like_keypoints = not certain and _like_keypoints(numbers)
    return Label(int(category[1]), box, name, len(numbers), certain, like_keypoints, category[2] is not None)


def _check_length(values: int, where: str, settings: YoloSettings) -> None:
    if values == 5 or values == settings.columns:
        return
    if settings.columns is not None:
        raise InputError(
            f"{where}: expected 5 or {settings.columns} values for the task '{settings.task}' of {settings.file.name}; "
            f"got {values}."
        )
    if values == 6:
        raise InputError(
            f"{where}: expected 'class cx cy w h' or a polygon; got 6 values. Remove the last one if it is a "
            "confidence or a track; a box with an angle must be written as four corners."
        )
    if values < 7 or values % 2 == 0:
        raise InputError(
            f"{where}: expected 'class cx cy w h' or a polygon; got {values} values. Poses need 'kpt_shape' in "
            f"{settings.file.name}."
        )


def _centred(cx: float, cy: float, w: float, h: float) -> Box:
    return cx - w / 2, cy - h / 2, w, h


def _enclosing(numbers: list[float]) -> Box:
    """Return the box around points x1, y1, x2, y2, ...; NaN if one is not finite."""
    if not all(map(math.isfinite, numbers)):
        return (math.nan,) * 4
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _is_upright(numbers: list[float]) -> bool:
    """Return whether points are the corners of an upright rectangle, which is the same box in every format."""
    if len(numbers) != _CORNERS:
        return False
    xs, ys = sorted(numbers[::2]), sorted(numbers[1::2])
    return all(abs(low - high) < _ROUNDING for low, high in (xs[:2], xs[2:], ys[:2], ys[2:]))


def _like_keypoints(numbers: list[float]) -> bool:
    """Return whether the first four numbers are a box inside the image that contains the rest as points."""
    x, y, w, h = _centred(*numbers[:4])
    if not (w > 0 and h > 0 and min(x, y) > -_SLACK and max(x + w, y + h) < 1 + _SLACK):
        return False
    return any(_inside((x, y, w, h), numbers[4:], size) for size in (2, 3))


def _inside(box: Box, numbers: list[float], size: int) -> bool:
    """Return whether keypoints of two or three numbers lie in a box; those at (0, 0) or of visibility 0 need not."""
    x, y, w, h = box
    visibility = numbers[2::3] if size == 3 else [1.0] * (len(numbers) // 2)
    if len(numbers) % size or not all(flag in (0, 1, 2) for flag in visibility):
        return False
    return all(
        flag == 0 or px == py == 0 or (-_SLACK < px - x < w + _SLACK and -_SLACK < py - y < h + _SLACK)
        for px, py, flag in zip(numbers[::size], numbers[1::size], visibility, strict=True)
    )

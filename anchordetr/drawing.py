"""Boxes and their labels drawn on images; numpy and Pillow only."""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
Font: TypeAlias = ImageFont.FreeTypeFont

_COLORS = 256
_NEAR, _APART = 5, 0.16  # indices that are near, and the least distance of their colors in Oklab
_SMALLEST_FONT = 9.0  # pixels
_COVERED = 0.1  # share of the image that labels may cover before their font gets smaller
_MOST_COVERED = 0.15  # share of the image that labels may cover
_MOST_HIDDEN = 0.1  # share of a label that earlier ones may hide
_LONGEST = 200  # characters of a label
_OWN_FONT = frozenset(map(chr, range(32, 127))) | {"…"}  # characters of Pillow's font
_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "arial.ttf",
)


def draw_boxes(
    image: Image.Image, boxes: NDArray[np.floating], labels: Sequence[str], classes: Sequence[int] | NDArray[np.int64]
) -> None:
    """Draw boxes, and their labels on a filled background, on an image; the first ones are on top.

    Lines and text have sizes that depend on that of the image. Each label is where it overlaps earlier ones least, and
    inside of the image: the end of one that is too long is left out. A label without space of its own is left out too,
    and so are the last ones if labels would cover more than 15 % of the image.

    Args:
        image: RGB, changed in place.
        boxes: (n, 4) x1, y1, x2, y2 in pixels; they end at the image's edges.
        labels: n texts.
        classes: n class indices, which determine the colors.
    """
    canvas = ImageDraw.Draw(image)
    boxes = np.clip(boxes, 0, [*image.size, *image.size])
    colors = [class_color(int(index)) for index in classes]
    line = max(1, round(_side(image) / 300))
    for box, color in reversed(list(zip(boxes.tolist(), colors, strict=True))):
        _draw_outline(canvas, box, color, line)
    fitted = _fit_labels(image, labels)
    sizes = np.array([label.size for label in fitted]).reshape(-1, 2)
    places = place_labels(boxes, sizes, image.size).tolist()
    for place, label, color in reversed(list(zip(places, fitted, colors, strict=True))):
        _draw_label(canvas, place, label, color)


def class_color(index: int) -> Color:
    """Return the color of a class: 256 are different, and classes with near indices have colors that are far apart."""
    return _palette()[index % _COLORS]


def text_color(background: Color) -> Color:
    """Return black or white, whichever has more contrast to the background."""
    luminance = float(_linear(np.array(background)) @ (0.2126, 0.7152, 0.0722))
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)  # at 0.179 both have the same contrast


@cache
def _palette() -> list[Color]:
    """Choose colors one after the other, each as far from all before it as can be and not near the last."""
    candidates = np.array(list(product(range(0, 256, 15), repeat=3)))
    lab = _oklab(candidates)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    suitable = (lab[:, 0] > 0.42) & (lab[:, 0] < 0.87) & (chroma > 0.09)
    candidates, lab = candidates[suitable], lab[suitable]
    chosen = [int(np.argmax(chroma[suitable]))]
    nearest = np.full(len(lab), np.inf)
    last: list[NDArray[np.float64]] = []
    while len(chosen) < _COLORS:
        distances = np.linalg.norm(lab - lab[chosen[-1]], axis=1).round(6)
        nearest, last = np.minimum(nearest, distances), [*last[1 - _NEAR :], distances]
        chosen.append(int(np.argmax(np.where(np.min(last, axis=0) > _APART, nearest, 0))))
    return [(red, green, blue) for red, green, blue in candidates[chosen].tolist()]


def _oklab(colors: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return sRGB colors (n, 3) in Oklab, in which distances are about as large as they look."""
    to_lms = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
    to_lab = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
    lab: NDArray[np.float64] = np.cbrt(_linear(colors) @ to_lms.T) @ to_lab.T
    return lab


def _linear(colors: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the linear intensities, 0 to 1, of sRGB values from 0 to 255."""
    values = colors / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _draw_outline(canvas: ImageDraw.ImageDraw, box: Sequence[float], color: Color, line: int) -> None:
    """Draw a rectangle of at least one pixel; a small one has thinner lines, so that the object stays visible."""
    x1, y1, x2, y2 = box
    left, top = min(math.floor(x1), canvas.im.size[0] - 1), min(math.floor(y1), canvas.im.size[1] - 1)
    right, bottom = max(math.ceil(x2) - 1, left), max(math.ceil(y2) - 1, top)
    side = min(right - left, bottom - top)
    canvas.rectangle((left, top, right, bottom), outline=color, width=min(line, max(1, side // 6)))


@dataclass(frozen=True)
class Label:
    """A text that fits into the image, its font, and the width and height of its background in pixels."""

    text: str
    font: Font
    size: tuple[int, int]


def fit_label(text: str, font_size: float, longest: int) -> Label:
    """Return a label of one line of at most ``longest`` pixels; the end of a longer text is an ellipsis."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())[:_LONGEST]
    font = _own_font(font_size) if _OWN_FONT.issuperset(text) else _system_font(font_size)
    if font is None:
        font, text = _own_font(font_size), _without_accents(text)
    padding = 2 * _padding(font)
    shown = text
    while text and font.getlength(shown) + padding > longest:
        text = text[:-1]
        shown = f"{text}…" if text else ""
    size = (math.ceil(font.getlength(shown)) + padding, sum(font.getmetrics())) if shown else (0, 0)
    return Label(shown, font, size)


def place_labels(
    boxes: NDArray[np.floating], sizes: NDArray[np.int64], image_size: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the place of each label inside of the image, (n, 4) x1, y1, x2, y2; zeros if it is left out.

    Places above the box, inside of it, below and beside it are compared; of those that overlap earlier labels least,
    the first is taken.

    Args:
        boxes: (n, 4) x1, y1, x2, y2 in pixels, inside of the image.
        sizes: (n, 2) width and height of each label.
        image_size: width and height.
    """
    places = np.zeros((len(boxes), 4), np.int64)
    free = _MOST_COVERED * math.prod(image_size)
    for row, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
        area = int(size.prod())
        if (size > image_size).any() or (area > free and places.any()):
            continue
        corners = np.clip(_candidates(box, size).round().astype(np.int64), 0, image_size - size)
        candidates = np.concatenate([corners, corners + size], axis=1)
        hidden = _overlaps(candidates, places[:row]).sum(axis=1)
        if hidden.min() <= _MOST_HIDDEN * area:
            places[row] = candidates[np.argmin(hidden)]
            free -= area
    return places


def _candidates(box: NDArray[np.floating], size: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the places of a label's upper left corner, the preferred ones first."""
    (x1, y1, x2, y2), (width, height) = box, size
    return np.array(
        [
            (x1, y1 - height),
            (x1, y1),
            (x1, y2),
            (x2 - width, y1 - height),
            (x2 - width, y2),
            (x2 - width, y1),
            (x1, y2 - height),
            (x2 - width, y2 - height),
            (x2, y1),
            (x1 - width, y1),
            (x2, y2 - height),
            (x1 - width, y2 - height),
        ]
    )


def _overlaps(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the common area of each pair of rectangles, (n, 4) and (m, 4) -> (n, m)."""
    starts = np.maximum(first[:, None, :2], second[None, :, :2])
    ends = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.maximum(ends - starts, 0).prod(axis=2)


def _padding(font: Font) -> int:
    return max(1, round(font.size / 6))


@cache
def _own_font(size: float) -> Font:
    return cast(Font, ImageFont.load_default(size))


@cache
def _system_font(size: float) -> Font | None:
    """Return a font of the system with more characters than Pillow's own, if there is one."""
    for name in _SYSTEM_FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return None


def _without_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def _fit_labels(image: Image.Image, labels: Sequence[str]) -> list[Label]:
    """Return labels of a font that suits the image, or of a smaller one if they would cover much of it."""
    font_size = max(_SMALLEST_FONT, round(6 + _side(image) / 90))
    fitted = [fit_label(label, font_size, image.width) for label in labels]
    covered = sum(label.size[0] * label.size[1] for label in fitted) / (image.width * image.height)
    if covered <= _COVERED:
        return fitted
    font_size = max(_SMALLEST_FONT, round(font_size * math.sqrt(_COVERED / covered)))
    return [fit_label(label, font_size, image.width) for label in labels]


def _draw_label(canvas: ImageDraw.ImageDraw, place: Sequence[int], label: Label, color: Color) -> None:
    x1, y1, x2, y2 = place
    if x2 > x1:
        canvas.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color)
        canvas.text((x1 + _padding(label.font), y1), label.text, fill=text_color(color), font=label.font)


def _side(image: Image.Image) -> float:
    """Return the side of a square of the image's area."""
    return math.sqrt(image.width * image.height)

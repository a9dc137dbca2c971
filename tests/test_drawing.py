"""Drawn boxes: labels stay inside the image and readable, colors stay apart."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops

from anchordetr.drawing import class_color, draw_boxes, fit_label, place_labels, text_color

SIZE = (320, 240)


def drawn(box: tuple[float, ...], label: str, size: tuple[int, int] = SIZE) -> Image.Image:
    image = Image.new("RGB", size, "gray")
    draw_boxes(image, np.array([box], float), [label], [0])
    return image


def drawn_label(box: tuple[float, ...], label: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return the part of a drawing that the label changes."""
    image = drawn(box, label, size)
    area = ImageChops.difference(image, drawn(box, "", size)).getbbox()
    return image.crop(area)


def luminance(color: tuple[int, ...]) -> float:
    values = np.array(color) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def cielab(color: tuple[int, ...]) -> NDArray[np.float64]:
    values = np.array(color) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = (to_xyz @ linear) / (0.9505, 1.0, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def text_with_background(image: Image.Image) -> NDArray[np.uint8]:
    """Return the part of a drawing with a label's text and one pixel around it."""
    pixels = np.asarray(image)
    rows, columns = np.nonzero((pixels != (128, 128, 128)).any(axis=2) & (pixels != class_color(0)).any(axis=2))
    top, left = rows.min() - 1, columns.min() - 1
    assert min(top, left) >= 0
    return pixels[top : rows.max() + 2, left : columns.max() + 2]


def test_a_label_is_whole_at_every_edge_and_corner() -> None:
    expected = text_with_background(drawn((100, 100, 200, 200), "cat 0.98"))
    assert (expected[[0, -1]] == class_color(0)).all()
    width, height = SIZE
    for left, top in product((-50, 0, 3, 150, width - 70, width - 4, width), (-50, 0, 2, 100, height - 40, height)):
        found = text_with_background(drawn((left, top, left + 60, top + 40), "cat 0.98"))
        assert np.array_equal(found, expected), (left, top)


def test_a_long_name_ends_in_an_ellipsis_inside_the_image() -> None:
    label = fit_label("hippopotamus " * 50, 12.0, 100)
    assert label.text.startswith("hippopotamus")
    assert label.text.endswith("…")
    assert 80 < label.size[0] <= 100
    assert drawn_label((300, 0, 320, 20), "hippopotamus " * 50).width <= SIZE[0]


@pytest.mark.parametrize("size", [(1, 1), (200, 3), (3, 200), (6, 6), (16, 12), (64, 64)], ids=str)
def test_very_small_images_keep_their_size_and_get_boxes(size: tuple[int, int]) -> None:
    image = drawn((0, 0, *size), "cat 0.98", size)
    assert image.size == size
    assert image.getpixel((0, size[1] - 1)) in (class_color(0), text_color(class_color(0)))
    assert drawn((*size, *size), "", size).getpixel((size[0] - 1, size[1] - 1)) == class_color(0)


def test_labels_hardly_overlap_and_stay_inside() -> None:
    generator = np.random.default_rng(0)
    starts = generator.uniform(0, 860, (80, 2))
    boxes = np.clip(np.concatenate([starts, starts + generator.uniform(2, 120, (80, 2))], axis=1), 0, 900)
    sizes = np.column_stack([generator.integers(40, 90, 80), np.full(80, 14)])
    places = place_labels(boxes, sizes, (900, 900))
    shown = places[places[:, 2] > 0]
    assert len(shown) > 70
    assert shown.min() >= 0
    assert shown.max() <= 900
    sheet = np.zeros((900, 900), np.int64)
    for x1, y1, x2, y2 in shown:
        sheet[y1:y2, x1:x2] += 1
    assert (sheet > 1).sum() < 0.02 * (sheet > 0).sum()


def test_equal_boxes_have_labels_side_by_side() -> None:
    places = place_labels(np.full((4, 4), (100, 100, 200, 200)), np.full((4, 2), (60, 14)), (640, 480))
    assert places[0].tolist() == [100, 86, 160, 100]
    assert len({tuple(place) for place in places.tolist()}) == 4
    assert (places[:, 2] > 0).all()


def test_a_label_without_space_of_its_own_is_left_out() -> None:
    places = place_labels(np.full((40, 4), (300, 200, 330, 220)), np.full((40, 2), (60, 14)), (640, 480))
    shown = places[places[:, 2] > 0]
    assert 4 <= len(shown) < 20
    for row, (x1, y1, x2, y2) in enumerate(shown[1:], start=1):
        widths = np.minimum(shown[:row, 2], x2) - np.maximum(shown[:row, 0], x1)
        heights = np.minimum(shown[:row, 3], y2) - np.maximum(shown[:row, 1], y1)
        assert (widths.clip(0) * heights.clip(0)).sum() <= 0.1 * 60 * 14


def test_labels_leave_most_of_a_crowded_image_free() -> None:
    centers = np.array(list(product(range(4, 64, 8), repeat=2)), float)
    boxes = np.concatenate([centers - 3, centers + 3], axis=1)
    with_labels, without = (Image.new("RGB", (64, 64), "gray") for _ in range(2))
    draw_boxes(with_labels, boxes, ["cat 0.9"] * 64, [0] * 64)
    draw_boxes(without, boxes, [""] * 64, [0] * 64)
    changed = (np.asarray(with_labels) != np.asarray(without)).any(axis=2).mean()
    assert 0.02 < changed < 0.3


def test_lines_and_text_grow_with_the_image() -> None:
    small, large = (drawn_label((side / 4, side / 4, side / 2, side / 2), "cat", (side, side)) for side in (200, 2000))
    assert large.height > 2 * small.height
    line = np.asarray(drawn((500, 500, 1500, 1500), "", (2000, 2000)))[1000, :1000]
    assert (line != 128).any(axis=1).sum() >= 5


def test_a_small_object_is_visible_inside_its_box() -> None:
    image = drawn((1000, 1000, 1012, 1012), "", (2000, 2000))
    assert image.getpixel((1000, 1000)) == class_color(0)
    assert image.getpixel((1006, 1006)) == (128, 128, 128)


def test_any_number_of_classes_has_colors_that_are_far_apart() -> None:
    labs = np.array([cielab(class_color(index)) for index in range(600)])
    distance = np.linalg.norm(labs[:, None] - labs, axis=2)
    near = [distance[index, index + step] for step in range(1, 6) for index in range(len(labs) - step)]
    assert min(near) > 18  # 2 to 3 is the least difference that is seen
    for count, least in ((10, 35), (20, 20), (80, 8), (256, 4)):
        assert distance[:count, :count][~np.eye(count, dtype=bool)].min() > least
    assert all(first != second for first, second in pairwise(map(class_color, range(600))))


def test_text_is_readable_on_every_color() -> None:
    for index in range(256):
        low, high = sorted(luminance(color) for color in (class_color(index), text_color(class_color(index))))
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2, level AA


@pytest.mark.parametrize("name", ["猫", "Ærø ü", "🚲", "قطة", "แมว", "a\nb", "\udcff", "\x00\x1b[2J", "", "é" * 500])
def test_any_name_is_drawn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn_label((100, 100, 200, 200), f"{name} 0.98").height < 30
    monkeypatch.setattr("anchordetr.drawing._system_font", lambda size: None)
    without_fonts = drawn_label((100, 100, 200, 200), f"{name} 0.98")
    assert without_fonts.height < 30
    if name.startswith("é"):
        assert np.array_equal(without_fonts, drawn_label((100, 100, 200, 200), f"{'e' * 500} 0.98"))


def test_drawing_needs_no_torch() -> None:
    code = """import sys, numpy as np
from anchordetr.detections import Detections
n = np.zeros(1)
Detections(np.array([[1, 1, 9, 9.0]]), n, n.astype(int), n, n, image=np.zeros((20, 20, 3), np.uint8)).plot()
print("torch" in sys.modules)"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"

"""The orientation of an image has one reader: sizes from headers are those of decoded images, whatever EXIF holds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_bytes import (
    PIXELS,
    exif_blocks,
    jpeg,
    orientation_tags,
    png,
    png_early,
    png_late,
    png_text,
    tiff,
    webp,
)
from numpy.typing import NDArray
from PIL import Image

from anchordetr.data.images import load_image, read_image, read_orientation, read_size

UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}
TURNED = (5, 6, 7, 8)

pytestmark = pytest.mark.filterwarnings("ignore")  # what Pillow says about broken EXIF


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("make", [jpeg, webp, png_early, png_late, png_text], ids=lambda make: make.__name__)
def test_header_and_decoder_agree_on_any_exif_block(make: Callable[[bytes], bytes], value: int, tmp_path: Path) -> None:
    file = tmp_path / "image"
    for name, exif in exif_blocks(value):
        file.write_bytes(make(exif))
        decoded = read_image(file, name).shape[:2]
        assert read_size(file) == decoded, name
        assert (read_orientation(file) in TURNED) == (decoded == (10, 8)), name


@pytest.mark.parametrize("value", range(1, 9))
def test_header_and_decoder_agree_on_tiff(value: int, tmp_path: Path) -> None:
    file = tmp_path / "image.tif"
    for name, tag in orientation_tags(value).items():
        file.write_bytes(tiff(tag))
        assert read_size(file) == read_image(file, name).shape[:2], name
        np.testing.assert_array_equal(read_image(file, name), UPRIGHT[read_orientation(file)](PIXELS), name)


@pytest.mark.parametrize("make", [png_early, png_late, png_text], ids=lambda make: make.__name__)
@pytest.mark.parametrize("value", UPRIGHT)
def test_pixels_are_upright(make: Callable[[bytes], bytes], value: int, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(make(dict(exif_blocks(value))["short"]))
    np.testing.assert_array_equal(read_image(file, "image"), UPRIGHT[value](PIXELS))
    assert read_orientation(file) == value


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_the_orientation_of_xmp_is_read_where_there_is_no_other(before: bytes, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(png((b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'), before))
    assert read_size(file) == read_image(file, "image").shape[:2] == (10, 8)


@pytest.mark.parametrize("kind", ["MPO", "PNG", "WEBP", "TIFF"])
def test_header_and_decoder_agree_on_files_of_several_images(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 8
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "image", kind, save_all=True, append_images=[image.rotate(180)], exif=exif)
    assert read_size(tmp_path / "image") == read_image(tmp_path / "image", "image").shape[:2] == (10, 8)


def test_a_broken_neighbour_leaves_the_orientation() -> None:
    blocks = dict(exif_blocks(6))
    for name in ("broken_neighbour", "neighbour_beyond_the_end", "text_in_place_of_an_offset", "not_utf8"):
        assert read_image(io.BytesIO(jpeg(blocks[name])), name).shape == (10, 8, 3), name
    for name in ("byte", "ascii", "infinite", "no_exif"):
        assert read_image(io.BytesIO(jpeg(blocks[name])), name).shape == (8, 10, 3), name


def test_an_image_that_pillow_opened_is_upright_too() -> None:
    blocks = dict(exif_blocks(6))
    for content in (jpeg(blocks["broken_neighbour"]), png_late(blocks["short"]), tiff(orientation_tags(6)["short"])):
        assert load_image(Image.open(io.BytesIO(content))).shape == (10, 8, 3)

"""Reading of images from files, URLs, arrays and tensors."""

from __future__ import annotations

import io
import os
import socket
import struct
import warnings
import zlib
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from image_bytes import directory
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from anchordetr.data import images
from anchordetr.data.images import ImageSource, read_orientation, read_size
from anchordetr.data.layouts.image_scan import scan_image
from anchordetr.data.transforms import as_tensor
from anchordetr.errors import InputError

RAMP = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3)


def load_image(source: ImageSource) -> Tensor:
    """Return an image as a tensor (3, H, W)."""
    return as_tensor(images.load_image(source))


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_an_rgb_file_is_read_unchanged(tmp_path: Path) -> None:
    image = load_image(save(Image.fromarray(RAMP), tmp_path / "ä b.png"))
    assert image.dtype == torch.uint8
    assert torch.equal(image, torch.from_numpy(RAMP).permute(2, 0, 1))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp"])
def test_all_formats_are_read(suffix: str, tmp_path: Path) -> None:
    assert load_image(save(Image.fromarray(RAMP), tmp_path / f"x.{suffix}")).shape == (3, 4, 6)


def test_greyscale_becomes_three_equal_channels(tmp_path: Path) -> None:
    image = load_image(save(Image.fromarray(RAMP[..., 0]), tmp_path / "x.png"))
    assert torch.equal(image, torch.from_numpy(RAMP[..., 0]).expand(3, -1, -1))


def test_transparent_pixels_are_composed_over_white(tmp_path: Path) -> None:
    rgba = np.dstack([RAMP, np.full((4, 6), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    image = load_image(save(Image.fromarray(rgba), tmp_path / "x.png"))
    assert image[:, 0, 0].tolist() == [255, 255, 255]
    assert image[:, 1, 1].tolist() == RAMP[1, 1].tolist()


def test_cmyk_is_converted(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (6, 4), (255, 0, 0, 0))
    image = load_image(save(cyan, tmp_path / "x.tif"))
    assert image[:, 0, 0].tolist() == [0, 255, 255]


def test_palettes_and_their_transparent_colour_are_applied(tmp_path: Path) -> None:
    drawn = Image.new("P", (3, 1))
    drawn.putdata([0, 1, 2])
    drawn.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert load_image(save(drawn, tmp_path / "x.png"))[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    image = load_image(save(drawn, tmp_path / "y.png", transparency=1))
    assert image[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


def test_sixteen_bits_are_divided_by_256(tmp_path: Path) -> None:
    values = (np.arange(24, dtype=np.uint16) * 2730).reshape(4, 6)
    image = load_image(save(Image.fromarray(values), tmp_path / "x.png"))
    assert image[0].tolist() == (values // 256).tolist()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # displayed rotated by 90 degrees clockwise
    image = load_image(save(Image.fromarray(RAMP), tmp_path / "x.png", exif=exif))
    assert torch.equal(image, torch.from_numpy(np.rot90(RAMP, -1).copy()).permute(2, 0, 1))


def test_values_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    save(Image.fromarray(np.full((4, 6), 70_000, np.int32)), tmp_path / "x.tif")
    with pytest.raises(InputError, match=r"x\.tif.*outside 16 bits"):
        load_image(tmp_path / "x.tif")
    save(Image.fromarray(np.full((4, 6), 0.5, np.float32)), tmp_path / "y.tif")
    with pytest.raises(InputError, match=r"y\.tif.*floating point"):
        load_image(tmp_path / "y.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_size_of_the_upright_image_is_read_from_the_header(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(Image.fromarray(RAMP), tmp_path / f"x.{suffix}", exif=exif)
    assert read_size(file) == tuple(load_image(file).shape[1:])
    assert read_orientation(file) == orientation


def test_too_many_pixels_are_refused_with_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(Image.fromarray(RAMP), tmp_path / "x.png")
    for limit, message in ((23, r"x\.png.*more than 23"), (11, "more than 11")):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match=message):
            load_image(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24)
    assert load_image(file).shape == (3, 4, 6)


def test_images_between_the_limits_of_pillow_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(InputError, match=r"x\.png has 24 pixels.*more than 20"):
            load_image(save(Image.fromarray(RAMP), tmp_path / "x.png"))


def test_a_known_format_is_read_under_any_suffix(tmp_path: Path) -> None:
    save(Image.fromarray(RAMP), tmp_path / "x.png").rename(tmp_path / "x.jpg")
    assert torch.equal(load_image(tmp_path / "x.jpg"), torch.from_numpy(RAMP).permute(2, 0, 1))


@pytest.mark.parametrize("kind", ["PPM", "EPS", "ICO", "TGA"])
def test_an_unsupported_format_is_refused_under_any_suffix(kind: str, tmp_path: Path) -> None:
    save(Image.fromarray(RAMP), tmp_path / "x.jpg", format=kind)
    with pytest.raises(InputError, match=r"x\.jpg.*known format \(JPEG, PNG"):
        load_image(tmp_path / "x.jpg")


def test_an_animation_is_read_as_its_first_frame_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "x.gif")[:, 0, 0].tolist() == [255, 0, 0]
    assert "first frame" in caplog.text


def test_a_multi_picture_jpeg_is_not_an_animation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=frames[1:])
    red, _, blue = load_image(tmp_path / "x.jpg")[:, 4, 4].tolist()
    assert red > 200 > 50 > blue
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an image"), (b"text", "not an image"), (b"\x89PNG\r\n\x1a\n broken", r"not an image|cannot be read")],
    ids=["empty", "text", "damaged"],
)
def test_a_file_that_is_not_an_image_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\.jpg.*({message})"):
        load_image(tmp_path / "bad.jpg")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8))
    whole = save(noise, tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"half\.jpg.*truncated"):
        load_image(tmp_path / "half.jpg")


def test_arrays_tensors_and_pil_images_are_read() -> None:
    expected = torch.from_numpy(RAMP).permute(2, 0, 1)
    assert torch.equal(load_image(RAMP), expected)
    assert torch.equal(load_image(expected), expected)
    assert torch.equal(load_image(expected.float() / 255), expected)
    assert torch.equal(load_image(Image.fromarray(RAMP)), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 6), np.uint8),
        np.zeros((4, 6, 3), np.float32),
        np.zeros((0, 6, 3), np.uint8),
        torch.zeros(1, 4, 6),
        torch.full((3, 4, 6), float("nan")),
        torch.full((3, 4, 6), 200.0),
    ],
    ids=["grey_array", "float_array", "empty_array", "one_channel", "nan", "float_255"],
)
def test_invalid_arrays_and_tensors_are_refused(wrong: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"array must be|tensor must be"):
        load_image(wrong)


@pytest.mark.parametrize("wrong", [None, 5, {}, object()])
def test_values_that_are_no_images_are_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="is no image; give a path"):
        load_image(cast(ImageSource, wrong))


def test_the_content_of_a_file_is_read_from_bytes_and_open_files(tmp_path: Path) -> None:
    file = save(Image.fromarray(RAMP), tmp_path / "x.png")
    content = file.read_bytes()
    buffer = io.BytesIO(content)
    with file.open("rb") as opened:
        for source in (content, buffer, buffer, opened):
            np.testing.assert_array_equal(images.load_image(source), RAMP)
    with pytest.raises(InputError, match="image of 5 bytes is not an image"):
        images.load_image(b"bytes")
    with (tmp_path / "x.txt").open("w+") as text, pytest.raises(InputError, match="mode 'rb'"):
        images.load_image(cast(ImageSource, text))


@pytest.mark.parametrize("height", [255, 256, 257, 700])
def test_images_are_copied_in_strips_without_a_gap(height: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, 3, 3)).astype(np.uint8)
    np.testing.assert_array_equal(images.load_image(save(Image.fromarray(pixels), tmp_path / "x.png")), pixels)


@pytest.mark.parametrize("name", ["folder", "pipe", "socket", "/dev/zero", "missing", "x" * 300, "a\0b"])
def test_only_regular_files_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for read in (images.load_image, read_size, read_orientation):
        with pytest.raises(InputError, match=name.replace("\0", ".")):
            read(tmp_path / name)
    assert scan_image(tmp_path / name).error


def test_larger_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with save(Image.fromarray(RAMP), tmp_path / "x.png").open("r+b") as file:
        file.truncate(images.IMAGE_BYTES + 1)  # takes no space on the disk
    for read in (images.load_image, read_size):
        with pytest.raises(InputError, match=r"x\.png has 1,073,741,825 bytes"):
            read(tmp_path / "x.png")
    assert "bytes" in str(scan_image(tmp_path / "x.png").error)


@pytest.mark.parametrize(
    "error",
    [struct.error("unpack"), zlib.error("crc"), MemoryError(), RecursionError(), AttributeError(), UserWarning("x")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_names_the_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    file = save(Image.fromarray(RAMP).convert("L"), tmp_path / "x.png")
    for target, name in ((Image, "open"), (Image.Image, "convert"), (PngImageFile, "load")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, fail)
            with pytest.raises(InputError, match=r"x\.png cannot be read"):
                images.load_image(file)


def test_an_opened_image_that_cannot_be_decoded_is_an_input_error(tmp_path: Path) -> None:
    file = save(Image.fromarray(RAMP), tmp_path / "x.png")
    file.write_bytes(file.read_bytes()[:50])
    with Image.open(file) as opened, pytest.raises(InputError, match="the image cannot be read"):
        images.load_image(opened)


def test_a_tiff_without_dimensions_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(directory([(258, 3, 1, b"\x08\0")]))
    for read in (images.load_image, read_size):
        with pytest.raises(InputError, match=r"x\.tif"):
            read(tmp_path / "x.tif")


def test_images_with_flipped_bytes_are_read_or_named(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in images.IMAGE_FORMATS:
        content = save(Image.fromarray(RAMP), tmp_path / "x", format=kind, exif=exif).read_bytes()
        for _ in range(20):
            damaged = bytearray(content)
            for place in random.integers(0, len(content), 3):
                damaged[place] = random.integers(256)
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                pixels = images.load_image(tmp_path / "damaged")
            except InputError:
                continue
            assert read_size(tmp_path / "damaged") == pixels.shape[:2], bytes(damaged)

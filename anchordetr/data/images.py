"""Image reading: files, their content, URLs, arrays and tensors to upright uint8 RGB arrays; numpy and Pillow only.

Greyscale becomes RGB, 16-bit values are divided by 256, transparent pixels are composed over white, EXIF orientation
is applied, and of an animation only the first frame is read, with a warning. Only the decoders of ``IMAGE_FORMATS``
are used, whatever the file's suffix; images of more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels are refused.
"""

from __future__ import annotations

import io
import logging
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from anchordetr.data.fetch import fetch, is_address, shortened
from anchordetr.errors import InputError, reason
from anchordetr.files import MEBIBYTE, require_regular_file

if TYPE_CHECKING:
    from torch import Tensor


class BinaryFile(Protocol):
    """An object that gives the content of a file, such as ``io.BytesIO`` or ``open(file, "rb")``."""

    def read(self) -> bytes:
        """Return the content, from the current position on."""
        ...


ImageSource: TypeAlias = "str | Path | bytes | BinaryFile | Image.Image | NDArray[np.uint8] | Tensor"
Pixels = NDArray[np.uint8]
"""An image: RGB (H, W, 3)."""

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Suffixes of the files that are read as images, in lower case."""
# fmt: off
UNREADABLE_IMAGE_SUFFIXES = (
    ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".svg", ".psd", ".tga",
    ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".dds", ".dcm", ".dng", ".raw",
    ".arw", ".cr2", ".cr3", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw",
)
# fmt: on
"""Suffixes of images in formats that are not read; such files are named, never left out without a word."""
IMAGE_BYTES = 1024 * MEBIBYTE
"""Larger files are not read as images."""

_STRIP = 256  # rows
_TO_UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = (5, 6, 7, 8)  # orientations that swap height and width
_PNG_METADATA = re.compile(rb"eXIf|.TXt(XML:com\.adobe\.xmp|Raw profile type exif)")  # what can hold an orientation

log = logging.getLogger("anchordetr")


def load_image(source: ImageSource) -> Pixels:
    """Return an image as uint8 RGB (H, W, 3), in memory of its own.

    Args:
        source: path, URL, content of a file (bytes, BytesIO or an open file), PIL image, RGB uint8 array (H, W, 3), or
            tensor (3, H, W), uint8 or float in [0, 1].

    Raises:
        InputError: the source cannot be read; the message names it and the reason.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        with _as_input_error("the image"):
            return _to_array(source, "the image")
    if isinstance(source, (str, Path)):
        name = str(source)
        return read_image(io.BytesIO(fetch(name)) if is_address(source) else Path(source), shortened(name))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read_image(io.BytesIO(source), f"The image of {len(source):,} bytes")
    if hasattr(source, "read"):
        return load_image(_content(source))
    if hasattr(source, "detach"):  # a tensor; torch is not imported here
        return _from_tensor(source)
    kind = type(source).__name__  # None is what OpenCV returns for a file that it cannot read
    raise InputError(
        f"A value of type {kind} is no image; give a path, an address, the bytes of a file, a PIL image, an array or a "
        "tensor."
    )


def is_image_source(source: object) -> bool:
    """Return whether :func:`load_image` takes a value for one image; of the others, iterables are several images."""
    known = (str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray)
    return isinstance(source, known) or hasattr(source, "detach") or hasattr(source, "read")


def read_image(file: Path | io.BytesIO, name: str) -> Pixels:
    """Return a decoded image file as upright uint8 RGB (H, W, 3).

    Args:
        file: path or content. name: for messages.

    Raises:
        InputError: the file is missing, of an unknown format, too large, or damaged.
    """
    with _open(file, name) as image:
        if getattr(image, "is_animated", False) and image.format != "MPO":
            log.warning("%s is an animation; only its first frame is used.", name)
        return _to_array(image, name)


def read_size(file: Path) -> tuple[int, int]:
    """Return height and width in pixels of the upright image, read from the file's header where that holds them.

    Raises:
        InputError: the file is missing, or of an unknown format.
    """
    with _open(file, str(file)) as image:
        if _has_orientation_behind_pixels(image):
            image.load()
        swapped = _orientation(image) in _SWAPPING
        if swapped and image.format == "TIFF":
            image.load()  # applies the orientation; whether the header's size does depends on Pillow's version
            swapped = False
        return (image.width, image.height) if swapped else (image.height, image.width)


def read_orientation(file: Path) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 if it has none.

    Raises:
        InputError: the file is missing, or of an unknown format.
    """
    with _open(file, str(file)) as image:
        if _has_orientation_behind_pixels(image):
            image.load()
        return _orientation(image)


def _orientation(image: Image.Image) -> int:
    """Return the only reading of an image's EXIF orientation: 1 to 8; 1 for none, any other value and broken EXIF.

    That of a TIFF image becomes 1 when it is loaded, since Pillow applies it; that of a PNG may follow the pixels.
    """
    try:
        # PngImageFile.getexif would decode the whole image in search of a late chunk
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        return next((orientation for orientation in _TO_UPRIGHT if value == orientation), 1)
    except Exception:  # struct.error, SyntaxError, UnicodeDecodeError, ...: whatever the bytes make Pillow raise
        return 1


def _has_orientation_behind_pixels(image: Image.Image) -> bool:
    """Return whether a PNG holds metadata behind its pixels, which Pillow finds by decoding them."""
    if image.format != "PNG":
        return False
    stream: Any = image.fp  # type: ignore[attr-defined]
    position = stream.tell()
    try:
        stream.seek(8)
        behind = False
        while len(chunk := stream.read(32)) >= 8:
            length, kind = struct.unpack(">I4s", chunk[:8])
            if behind and _PNG_METADATA.match(chunk, 4):
                return True
            behind = behind or kind == b"IDAT"
            stream.seek(length + 12 - len(chunk), io.SEEK_CUR)
        return False
    finally:
        stream.seek(position)


@contextmanager
def _open(file: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    if isinstance(file, Path) and (size := require_regular_file(file).st_size) > IMAGE_BYTES:
        raise InputError(f"{name} has {size:,} bytes; images of more than {IMAGE_BYTES:,} bytes are refused.")
    with _as_input_error(name), Image.open(file, formats=IMAGE_FORMATS) as image:
        _check_pixels(image, name)
        yield image


@contextmanager
def _as_input_error(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an error that names the image."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(IMAGE_FORMATS)
        raise InputError(f"{name} is not an image in a known format ({known}); convert it to one of them.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(_too_large(name, "too many")) from None
    except MemoryError as error:
        raise InputError(f"{name} cannot be read: there is not enough memory for it.") from error
    except Exception as error:
        raise InputError(f"{name} cannot be read: {reason(error)}.") from error


def _check_pixels(image: Image.Image, name: str) -> None:
    pixels = image.width * image.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise InputError(_too_large(name, str(pixels)))


def _too_large(name: str, pixels: str) -> str:
    return (
        f"{name} has {pixels} pixels; images of more than {Image.MAX_IMAGE_PIXELS} are refused. Make it smaller, "
        "or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file."
    )


def _to_array(image: Image.Image, name: str) -> Pixels:
    """Return an opened image as upright uint8 RGB (H, W, 3)."""
    image.load()
    method = _TO_UPRIGHT.get(_orientation(image))
    return _pixels(_to_rgb(image if method is None else image.transpose(method), name))


def _pixels(image: Image.Image) -> Pixels:
    """Return the pixels of an RGB image (H, W, 3), copied in strips: as a whole, Pillow needs them three times."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{name} has values outside 16 bits; convert it to 8 or 16 bits first.")
        image = Image.fromarray((values // 256).astype(np.uint8))
    if image.mode == "F":
        raise InputError(f"{name} has floating point values; convert it to 8 or 16 bits first.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _content(file: BinaryFile) -> bytes:
    """Return the content of a file in memory, or the rest of an open one."""
    content = file.getvalue() if isinstance(file, io.BytesIO) else file.read()
    if not isinstance(content, bytes):
        raise InputError("An open file must give bytes; open it with the mode 'rb'.")
    return content


def _from_array(array: NDArray[np.uint8]) -> Pixels:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise InputError(f"An array must be RGB uint8 (height, width, 3); got {array.dtype} {array.shape}.")
    return np.array(array, order="C")


def _from_tensor(tensor: Tensor) -> Pixels:
    if tensor.ndim != 3 or tensor.shape[0] != 3 or 0 in tensor.shape:
        raise InputError(f"A tensor must be (3, height, width); got {tuple(tensor.shape)}.")
    values = tensor.detach().cpu()
    array = np.asarray(values.float() if values.is_floating_point() else values)
    if array.dtype != np.uint8:
        if array.dtype != np.float32 or not ((array >= 0) & (array <= 1)).all():
            raise InputError("A tensor must be uint8, or float with values in [0, 1]; this one is not.")
        array = (array * 255).round().astype(np.uint8)
    return np.array(array.transpose(1, 2, 0), order="C")

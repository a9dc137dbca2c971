"""Image reading: files, URLs, arrays and tensors to upright uint8 RGB arrays; numpy and Pillow only.

Greyscale becomes RGB, 16-bit values are divided by 256, transparent pixels are composed over white, EXIF orientation
is applied, and of an animation only the first frame is read, with a warning. Only the decoders of ``IMAGE_FORMATS``
are used, whatever the file's suffix; images of more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels are refused.
"""

from __future__ import annotations

import glob
import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from anchordetr.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

ImageSource: TypeAlias = "str | Path | Image.Image | NDArray[np.uint8] | Tensor"
Pixels = NDArray[np.uint8]
"""An image: RGB (H, W, 3)."""

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_TIMEOUT_SECONDS = 30
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that swap height and width

log = logging.getLogger("anchordetr")


def expand_source(source: str | Path) -> list[str | Path]:
    """Return the images of a file, folder, glob pattern or URL, sorted.

    Raises:
        InputError: the path does not exist, or a folder or pattern has no images.
    """
    if is_url(source):
        return [source]
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
        if not found:
            raise InputError(f"The folder {path} contains no images ({', '.join(IMAGE_SUFFIXES)}).")
        return sorted(found)
    if path.exists():
        return [path]
    matches = [Path(match) for match in glob.glob(str(source), recursive=True)]
    if not matches:
        raise InputError(f"No such image, folder or pattern: {source}. Check the path.")
    return sorted(match for match in matches if match.suffix.lower() in IMAGE_SUFFIXES)


def is_url(source: object) -> bool:
    """Return whether a source is an http or https URL."""
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def load_image(source: ImageSource) -> Pixels:
    """Return an image as uint8 RGB (H, W, 3), in memory of its own.

    Args:
        source: path, URL, PIL image, RGB uint8 array (H, W, 3), or tensor (3, H, W), uint8 or float in [0, 1].

    Raises:
        InputError: the source cannot be read; the message names it and the reason.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return np.array(_to_rgb(source, "the image"))
    if isinstance(source, (str, Path)):
        name = str(source)
        return read_image(io.BytesIO(_fetch(name)) if is_url(source) else Path(source), name)
    return _from_tensor(source)


def load_or_skip(source: ImageSource) -> Pixels | None:
    """Return an image as :func:`load_image`, or None after a warning if it cannot be read."""
    try:
        return load_image(source)
    except InputError as error:
        log.warning("Skipped: %s", error)
        return None


def read_image(file: Path | io.BytesIO, name: str) -> Pixels:
    """Return a decoded image file as upright uint8 RGB (H, W, 3).

    Args:
        file: path or content. name: for messages.

    Raises:
        InputError: the file is missing, of an unknown format, too large, or damaged.
    """
    with _open(file, name) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            log.warning("%s is an animation; only its first frame is used.", name)
        image.load()
        return np.array(_to_rgb(image, name))


def read_size(file: Path) -> tuple[int, int]:
    """Return height and width in pixels of the upright image, read from the file's header.

    Raises:
        InputError: the file is missing, or of an unknown format.
    """
    with _open(file, str(file)) as image:
        transposed = _orientation(image) in _TRANSPOSED
        if transposed and image.format == "TIFF":
            image.load()  # Pillow applies the orientation of TIFF images itself when it loads them
            transposed = False
        return (image.width, image.height) if transposed else (image.height, image.width)


def read_orientation(file: Path) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 if it has none.

    Raises:
        InputError: the file is missing, or of an unknown format.
    """
    with _open(file, str(file)) as image:
        return _orientation(image)


def _orientation(image: Image.Image) -> int:
    # PngImageFile.getexif would decode the whole image in search of a late chunk
    return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))


@contextmanager
def _open(file: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            _check_pixels(image, name)
            yield image
    except FileNotFoundError:
        raise InputError(f"No such image: {name}. Check the path.") from None
    except UnidentifiedImageError:
        raise InputError(f"{name} is not an image in a known format ({', '.join(IMAGE_FORMATS)}).") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(_too_large(name, "too many")) from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} cannot be read: {error}") from error


def _check_pixels(image: Image.Image, name: str) -> None:
    pixels = image.width * image.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise InputError(_too_large(name, str(pixels)))


def _too_large(name: str, pixels: str) -> str:
    return (
        f"{name} has {pixels} pixels; images of more than {Image.MAX_IMAGE_PIXELS} are refused. Make it smaller, "
        "or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file."
    )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    image = ImageOps.exif_transpose(image)
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
    return image.convert("RGB")


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


def _fetch(url: str) -> bytes:
    try:
        with urlopen(Request(url, headers={"User-Agent": "anchordetr"}), timeout=_TIMEOUT_SECONDS) as response:
            content: bytes = response.read()
            return content
    except (URLError, OSError) as error:
        raise InputError(f"{url} could not be fetched: {error}") from error


def expand_sources(sources: Sequence[str | Path]) -> list[str | Path]:
    """Return the images of several sources, in the given order."""
    return [image for source in sources for image in expand_source(source)]

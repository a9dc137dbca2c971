"""Image files made byte by byte, with any EXIF block at any place."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

Tag = tuple[int, int, int, bytes]
"""Number, type, count and value of a tag."""

ORIENTATION = 274
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)


def orientation_tags(value: int) -> dict[str, Tag]:
    """Return tags that store an orientation in every type, and some that store none."""
    return {
        "short": (ORIENTATION, 3, 1, struct.pack("<H", value)),
        "long": (ORIENTATION, 4, 1, struct.pack("<I", value)),
        "byte": (ORIENTATION, 1, 1, bytes([value])),
        "ascii": (ORIENTATION, 2, 2, b"%d\0" % value),
        "undefined": (ORIENTATION, 7, 1, bytes([value])),
        "rational": (ORIENTATION, 5, 1, struct.pack("<II", value, 1)),
        "divided_by_zero": (ORIENTATION, 5, 1, struct.pack("<II", value, 0)),
        "float": (ORIENTATION, 11, 1, struct.pack("<f", value)),
        "infinite": (ORIENTATION, 11, 1, struct.pack("<f", float("inf"))),
        "two_shorts": (ORIENTATION, 3, 2, struct.pack("<HH", value, value)),
        "huge": (ORIENTATION, 4, 1, struct.pack("<I", 2**32 - 1)),
        "unknown_type": (ORIENTATION, 99, 1, bytes([value])),
    }


def exif_blocks(value: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and EXIF blocks with an orientation: of every type, with broken neighbours, broken themselves."""
    for name, tag in orientation_tags(value).items():
        yield name, directory([tag])
    tag = orientation_tags(value)["short"]
    whole = directory([(271, 2, 6, b"maker\0"), tag])
    for length in (0, 3, 6, 8, 9, 10, 20, 22, 33):
        yield f"cut_at_{length}", whole[:length]
    yield "broken_neighbour", directory([tag, (282, 5, 1, b"\1\0\0\0\1")])
    yield "neighbour_beyond_the_end", directory([tag, (282, 5, 1, b"12345678")])[:34]
    yield "text_in_place_of_an_offset", directory([tag, (34665, 2, 4, b"abc\0")])
    yield "not_utf8", directory([tag, (306, 1, 3, b"\xff\xfe\1"), (33432, 13, 1, b"\1\0\0\0")])
    yield "another_byte_order", b"MM" + whole[2:]
    yield "no_exif", b"XX" + whole[2:]
    yield "circle", whole[:4] + bytes(4) + whole[8:]


def directory(tags: list[Tag]) -> bytes:
    """Return a TIFF file of one directory of tags without pixels, which is also an EXIF block."""
    entries, values = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for number, kind, count, value in tags:
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack("<I", start + len(values))
            values += value
        entries += struct.pack("<HHI", number, kind, count) + place
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values


def encoded(kind: str) -> bytes:
    """Return the pixels in a format of Pillow."""
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind)
    return stream.getvalue()


def jpeg(exif: bytes) -> bytes:
    content, block = encoded("JPEG"), b"Exif\0\0" + exif
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]


def png(chunk: tuple[bytes, bytes], before: bytes) -> bytes:
    """Return a PNG with one more chunk (name, content) before that of another name."""
    name, block = chunk
    content = encoded("PNG")
    place = content.index(before) - 4
    added = struct.pack(">I", len(block)) + name + block + struct.pack(">I", zlib.crc32(name + block))
    return content[:place] + added + content[place:]


def png_early(exif: bytes) -> bytes:
    return png((b"eXIf", exif), b"IDAT")


def png_late(exif: bytes) -> bytes:
    return png((b"eXIf", exif), b"IEND")


def png_text(exif: bytes) -> bytes:
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    return png((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)), b"IEND")


def webp(exif: bytes) -> bytes:
    height, width = PIXELS.shape[:2]
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + sides
    chunk = b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    body = b"WEBP" + extended + encoded("WEBP")[12:] + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(tag: Tag) -> bytes:
    """Return a TIFF of the pixels with one more tag."""
    height, width = PIXELS.shape[:2]
    content = PIXELS.tobytes()
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 2), (273, 0), (277, 3), (278, height)]
    entries = [(number, 4, 1, struct.pack("<I", value)) for number, value in [*tags, (279, len(content))]]
    place = entries.index((273, 4, 1, bytes(4)))
    start = len(directory([*entries, tag]))
    entries[place] = (273, 4, 1, struct.pack("<I", start))
    return directory(sorted([*entries, tag], key=lambda entry: entry[0])) + content

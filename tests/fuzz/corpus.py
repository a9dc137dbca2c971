"""The smallest inputs that once raised other errors, hung or were misread, by target."""

from __future__ import annotations

import json
import struct
from typing import Any

import torch
from fuzz.archives import packed
from fuzz.coco import DOCUMENT
from fuzz.models import TENSORS, archive
from fuzz.voc import to_xml
from fuzz.yolo import SETTINGS
from image_bytes import directory, encoded, exif_blocks, jpeg, orientation_tags, png_late, tiff


def coco(part: str, **values: Any) -> bytes:
    """Return annotations with other values in the first entry of a list."""
    first, *others = DOCUMENT[part]
    return json.dumps({**DOCUMENT, part: [{**first, **values}, *others]}).encode()


def voc(**values: Any) -> bytes:
    """Return an annotation file with other elements."""
    return to_xml("annotation", {"filename": "a.png", **values}).encode()


def yolo(line: str) -> bytes:
    """Return a ``data.yaml`` with one more line."""
    return (SETTINGS + line).encode()


EXIF = dict(exif_blocks(6))
CORPUS: dict[str, list[Any]] = {
    "COCO annotations": [
        coco("annotations", category_id=[[]]),
        coco("annotations", bbox="1234"),
        coco("annotations", bbox=[1, 2, 10**400, 4]),
        coco("annotations", bbox=None, segmentation=[[]]),
        coco("annotations", bbox=[0, 0, 0, 0], segmentation={"size": [0, 0], "counts": ""}),
        coco("annotations", id=2**64),
        coco("annotations", area=float("inf")),
        coco("annotations", iscrowd=[]),
        coco("images", width=10**400),
        coco("images", id="²"),
        coco("images", file_name="a\0b"),
        coco("images", file_name="9" * 5000),
        coco("images", file_name="\ud800.png"),
        coco("categories", supercategory={}),
        coco("categories", name="\ud800"),
        b"[" * 100_000,
        b'{"images": [}',
        b'{"images": [{"id": ' + b"9" * 5000 + b"}]}",
        b"",
    ],
    "YOLO labels": [
        b"\xff\xfe",
        b"0 nan 0.5 0.2 0.2",
        b"0 0.5 0.5 1e400 0.2",
        b"\xc2\xb2 0.5 0.5 0.2 0.2",
        b"0 /",
        b"\0",
    ],
    "YOLO data.yaml": [
        yolo("date: 2024-13-45"),
        yolo("date: !!timestamp x"),
        yolo("size: !!float x"),
        b"names: [2024-13-45, 02146, no]\nval: images",
        b"names: [caf\xe9]",
        b"&a [*a]",
        b"names: " + b"[" * 5000,
        b"names: [a]\nval: /",
        b"names: [a]\nval: b\npath: " + b"9" * 5000,
        b"names: [a]\nval: {a: [b]}",
        b"? {a: b}\n: c",
        b"a: \0",
    ],
    "YOLO obj.data": [
        b"",
        b"train = a\0b\nnames = obj.names",
        b"train = " + b"x" * 5000 + b"\nnames = obj.names",
        b"train = images\nnames = " + b"x" * 5000,
        b"train = .\nnames = .",
        b"train = /\nnames = obj.names",
        b"\xff\xfe",
    ],
    "archives": [
        b"",
        b"PK\x05\x06" + b"\xff" * 18,
        packed(),
        packed()[:-30],
        packed().replace(b"a/data.yaml", b"../ata.yaml"),
        packed().replace(b"a/data.yaml", b"a\0data.yaml"),
        packed().replace(b"a/data.yaml", b"a/images///"),
        packed().replace(b"a/images/a.png", b"a/data.yaml/pg"),
    ],
    "VOC annotations": [
        voc(size={"width": "1e19", "height": "8"}),
        voc(object={"name": "cat", "bndbox": {"xmin": "1", "ymin": "2", "xmax": "9" * 400, "ymax": "8"}}),
        voc(object={"name": "", "bndbox": {}}),
        voc(object={"name": "cat", "bndbox": ["1", "2"]}),
        voc(filename="../../a.png"),
        b"<a>" * 10_000,
        b'<?xml version="1.0" encoding="punycode"?><annotation/>',
        b'<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>',
        b"<annotation>",
    ],
    "images": [
        b"",
        *(jpeg(block) for block in EXIF.values()),
        png_late(EXIF["ascii"]),
        png_late(EXIF["infinite"]),
        *(tiff(tag) for tag in orientation_tags(6).values()),
        directory([]),
        *(encoded(kind)[:60] for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP")),
    ],
    "model.safetensors": [
        b"",
        b"{}",
        b"\xff" * 8,
        b"\x02" + bytes(7) + b"{}",
        b"\x02" + bytes(7) + b"[]",
        struct.pack("<Q", 5006) + b'{"a":"' + b"9" * 4998 + b'"}',
    ],
    "config.json": [
        b"[]",
        b"null",
        b'{"model": []}',
        b'{"model": {"backbone": "\\ud800"}}',
        b'{"origin": [1]}',
        b'{"origin": {"metrics": {"ap": 1' + b"0" * 400 + b"}}}",
        b"[" * 100_000,
        b'{"model": 1, "architecture": "' + b"9" * 5000 + b'"}',
        b'{"model": 1, "format_version": "' + b"9" * 5000 + b'"}',
    ],
    "training_state.pt": [
        b"",
        archive({}),
        archive([]),
        archive({"format_version": 3}),
        archive({"format_version": []}),
        archive({"format_version": torch.zeros(2)}),
        archive({"format_version": "9" * 5000}),
    ],
    "checkpoints of the original": [
        b"",
        archive([]),
        archive({"model": {1: torch.zeros(2)}}),
        *(archive({"model": {"transformer.class_embed.0.weight": tensor}}) for tensor in TENSORS),
    ],
    "command line": [
        ["config", "anchordetr_tiny", "--set", "train.lr=: :"],
        ["config", "anchordetr_tiny", "--set", "data.train_short_sides=[]"],
        ["config", "anchordetr_tiny", "--set", f"train.seed={2**64}"],
        ["config", "anchordetr_tiny", "--set", "model.backbone=\ud800"],
        ["config", "anchordetr_tiny", "--set", "{0}"],
        ["config", "a\0b"],
        ["eval", "--weights", "model", "--data", "images", "--split", ""],
        ["predict", "[/bold]", "--weights", "model"],
        ["predict", "image.png", "--weights", "model", "--patterns", "²"],
        ["benchmark", "rcda", "--size", "²x²"],
        ["doctor", "images", "--samples", "page"],
        ["train", "--data", "nowhere", "--output-dir", "run", "--seed", str(2**64)],
    ],
}

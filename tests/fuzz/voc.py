"""Pascal VOC's annotation files."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import escape

from fuzz.mutations import mutated_document, mutated_text
from fuzz.outcome import FileTarget
from fuzz.yolo import read
from PIL import Image

CORNERS = {"xmin": "1", "ymin": "2.5", "xmax": "9", "ymax": "8"}
DOCUMENT: dict[str, Any] = {
    "filename": "a.png",
    "size": {"width": "10", "height": "8", "depth": "3"},
    "object": [
        {"name": "cat", "difficult": "0", "truncated": "1", "bndbox": CORNERS},
        {"name": "dog", "bndbox": CORNERS, "part": {"name": "head", "bndbox": CORNERS}},
    ],
}


def target(folder: Path) -> FileTarget:
    """Return the annotation file of one image."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    Image.new("RGB", (10, 8)).save(folder / "JPEGImages" / "a.png")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    file = folder / "Annotations" / "a.xml"
    return FileTarget(file, lambda: read(folder), mutate, named="a.xml")


def mutate(random: Random) -> bytes:
    if random.randrange(2):
        return mutated_text(to_xml("annotation", DOCUMENT), random)
    return to_xml("annotation", mutated_document(DOCUMENT, random)).encode("utf-8", "surrogatepass")


def to_xml(name: str, value: Any) -> str:
    """Return an element, or one for each entry of a list."""
    if isinstance(value, list):
        return "".join(to_xml(name, part) for part in value)
    content = "".join(map(to_xml, value, value.values())) if isinstance(value, dict) else escape(str(value))
    return f"<{name}>{content}</{name}>"

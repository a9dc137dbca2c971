"""Archives of data sets."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from random import Random
from zipfile import ZIP_DEFLATED, ZipFile

from fuzz.mutations import mutated_bytes
from fuzz.outcome import FileTarget
from fuzz.yolo import LABELS, read
from PIL import Image


def target(folder: Path) -> FileTarget:
    """Return an archive of a YOLO data set; errors name it or a file in the folder that it is unpacked to."""
    archive = folder / "pets.zip"

    def unpack_and_read() -> None:
        for former in folder.glob("pets-*"):
            shutil.rmtree(former)
        before = {file.name for file in folder.iterdir()}
        try:
            read(archive)
        finally:
            new = {file.name for file in folder.iterdir()} - before
            assert all(name.startswith(("pets-", ".pets-")) for name in new), new

    return FileTarget(archive, unpack_and_read, mutate, named=str(folder / "pets"))


def packed() -> bytes:
    image = io.BytesIO()
    Image.new("RGB", (10, 8)).save(image, "PNG")
    content = io.BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED) as archive:
        archive.writestr("a/data.yaml", "train: images\nval: images\ntask: segment\nnames: [cat, dog]\n")
        archive.writestr("a/images/a.png", image.getvalue())
        archive.writestr("a/labels/a.txt", LABELS)
    return content.getvalue()


def mutate(random: Random) -> bytes:
    return mutated_bytes(packed(), random)

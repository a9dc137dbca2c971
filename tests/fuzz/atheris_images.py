"""Coverage-guided fuzzing of image files: ``pip install atheris``, ``PYTHONPATH=tests:tests/golden python -m
fuzz.atheris_images``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["anchordetr.data", "PIL"]):
    from fuzz import images

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        target = images.target(Path(folder))
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, content in enumerate(images.SEEDS):
            (corpus / str(number)).write_bytes(content)
        atheris.Setup([*sys.argv, str(corpus)], lambda content: target.outcome(content) and None)
        atheris.Fuzz()

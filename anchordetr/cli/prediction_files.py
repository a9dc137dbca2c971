"""The output folder of ``anchordetr predict``, and the formats that are written to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from anchordetr.cli.prediction_formats import FORMATS, WHOLE_FILES, Categories, Format
from anchordetr.disk import make_writable_folder
from anchordetr.errors import InputError, UsageError, closest_match
from anchordetr.files import numbered, require_replaceable

_DEFAULT = Path("runs/predict")
_RESULTS = re.compile(rf"{'|'.join(map(re.escape, WHOLE_FILES))}|labels|crops|\d{{4,}}_.*\.(jpg|png)")


def output_folder(given: Path | None, overwrite: bool) -> Path:
    """Create and return the folder for results.

    Args:
        given: the folder that the user named. None is ``runs/predict``, or the next free ``runs/predict-2``, ...
        overwrite: take a folder that holds results.

    Raises:
        InputError: the given folder holds results, and ``overwrite`` is false.
        WriteError: the folder cannot be written.
    """
    candidates = [given] if given else numbered(_DEFAULT)
    folder = next((folder for folder in candidates if overwrite or _result_in(folder) is None), None)
    if folder is None:
        raise InputError(
            f"There are results already, for example {_result_in(given or _DEFAULT)}; choose another --output-dir, or "
            "add --overwrite to replace files of the same names."
        )
    make_writable_folder(folder)
    for name in WHOLE_FILES:
        require_replaceable(folder / name)
    return folder


def _result_in(folder: Path) -> Path | None:
    """Return a file of a folder that looks like a result of ``predict``."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return next((file for file in files if _RESULTS.fullmatch(file.name)), None)


def parse_formats(text: str, images: bool) -> list[type[Format]]:
    """Return the formats that are named, separated by commas, and that of annotated images if they are asked for.

    Raises:
        UsageError: there is no such format.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"--save {name} is not known.{closest_match(name, FORMATS)}")
    return [FORMATS[name] for name in dict.fromkeys([*names, *(["images"] if images else [])])]


@contextmanager
def open_formats(formats: Sequence[type[Format]], folder: Path, categories: Categories) -> Iterator[list[Format]]:
    """Enter a context whose end writes what a format writes as a whole, also after an error or an interruption."""
    with ExitStack() as stack:
        writers = []
        for kind in formats:
            writers.append(kind(folder, categories))
            stack.callback(writers[-1].close)
        yield writers

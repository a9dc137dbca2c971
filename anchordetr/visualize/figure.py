"""Figures of matplotlib (``anchordetr[plots]``) of bounded size, with names that somebody else chose."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from anchordetr.console import printable, shortened
from anchordetr.disk import make_writable_folder
from anchordetr.errors import InputError, UsageError, reason
from anchordetr.files import require_replaceable, write_atomically

log = logging.getLogger("anchordetr")

_FORMATS = (".png", ".svg", ".pdf")
_LONGEST_NAME = 24
_LONGEST_SIDE = 20  # inches
_DOTS_PER_INCH = 100


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure; sizes are in inches, at most 20.

    Raises:
        InputError: matplotlib is not installed, or cannot be imported.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("A chart needs matplotlib; run: pip install 'anchordetr[plots]'") from error
    except Exception as error:  # of an installation that is damaged or does not fit numpy
        raise InputError(f"matplotlib cannot be imported ({reason(error)}); install it again.") from error
    figure = Figure(figsize=(min(width, _LONGEST_SIDE), min(height, _LONGEST_SIDE)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, PNG without one; return the path."""
    kind = path.suffix[1:].lower() or "png"
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=kind, dpi=_DOTS_PER_INCH))
    return path


def require_chart(path: Path) -> None:
    """Check that a chart can be written to a path, before it is computed; create its folder.

    Raises:
        UsageError: the suffix is not that of a known format.
        InputError: matplotlib cannot be used, or the file cannot be written.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"--plot {path} is not the name of a chart; give it one of the suffixes png, svg, pdf.")
    new_figure(1, 1)
    make_writable_folder(path.parent)
    require_replaceable(path)


def attempt(path: Path, draw: Callable[[Path], object]) -> list[Path]:
    """Draw a figure into a file and return the file; warn and return nothing if that fails, whatever the reason."""
    try:
        draw(path)
    except Exception as error:
        log.warning("%s was not drawn: %s.", path, explain(error))
        return []
    return [path]


def explain(error: Exception) -> str:
    """Return the first line of an error, with the type of one that is not the library's."""
    kind = type(error).__name__
    return reason(error) if isinstance(error, InputError) or reason(error) == kind else f"{kind}: {reason(error)}"


def label(name: str, number: int) -> str:
    """Return a class's name for a figure: at most 24 characters, ``class 7`` if the font lacks one of them."""
    text = shortened(printable(name), _LONGEST_NAME)
    if any(ord(character) not in _letters() for character in text):
        return f"class {number}"
    return text.replace("$", r"\$")  # no formula


@cache
def _letters() -> frozenset[int]:
    """Return the characters of matplotlib's font."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())

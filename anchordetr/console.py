"""Text for the terminal, progress bars and notes on stderr."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

# C0, C1, marks of direction, separators of lines and paragraphs, halves of surrogate pairs
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a text on one line, with control characters as visible escapes (``\\x1b``, ``\\n``, ``\\u202e``).

    A name that somebody else chose can then neither move the cursor, nor change the terminal or the order of letters,
    nor fail to be encoded in UTF-8.
    """
    return CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)


def shortened(text: str, longest: int) -> str:
    """Return a text, cut to ``longest`` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def plain(text: str) -> Text:
    """Return a :func:`printable` text without markup, as rich shows it."""
    return Text(printable(text))


def table_text(text: str, longest: int = 200) -> Text:
    """Return a text for a cell or title of a table: :func:`plain`, and cut to ``longest`` characters."""
    return plain(shortened(text, longest))


def duration(seconds: float) -> str:
    """Return a time for people: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 5 h``."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


class DownloadBar:
    """Shows the progress of a download; use it as a context manager."""

    def __init__(self, name: str) -> None:
        self.bar = Progress(
            TextColumn("fetching {task.description}", markup=False),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self.bar.add_task(printable(name), total=None)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """Show ``done`` of ``total`` bytes; None if the server does not say how many."""
        self.bar.update(self._task, completed=done, total=total)


def say(note: str | Table) -> None:
    """Print a note, with its lines :func:`printable`, or a table on stderr; only the main process does."""
    from anchordetr.distributed import is_main_process  # loads torch

    if not is_main_process():
        return
    if isinstance(note, str):
        note = "\n".join(map(printable, note.split("\n")))
    Console(stderr=True).print(note, highlight=False, soft_wrap=isinstance(note, str), markup=False)

"""The progress of a long command on stderr: a bar on a terminal, lines of text anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS = 60.0
_SHARE = 0.1


@contextmanager
def progress(title: str, total: int, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show how many of ``total`` items are done, and the time left; the context's value counts items.

    On a terminal it is a bar. In a pipe or a file it is a line after a minute, and another one whenever a minute has
    passed since and a tenth of the items is done; a short command prints nothing.

    Args:
        title: a word for the work.
        total: the number of items.
        shown: whether anything is shown at all.
    """
    console = Console(stderr=True)
    if not shown:
        yield lambda count: None
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(title, total=total)
            yield lambda count: bar.advance(task, count)
    else:
        yield _Lines(title, total)


def _bar(console: Console) -> Progress:
    """Return a bar that fits 80 columns; lines on stdout go above it where both are the same terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        redirect_stdout=sys.stdout.isatty(),
    )


class _Lines:
    """Prints lines of text about progress."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._done, self._said = 0, 0
        self._start = self._last = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last < _SECONDS or self._done - self._said < _SHARE * self._total or self._done >= self._total:
            return
        self._last, self._said = now, self._done
        left = (now - self._start) / self._done * (self._total - self._done)
        print(f"{self._title}: {self._done} of {self._total}, {duration(left)} left", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a time as ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

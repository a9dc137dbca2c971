"""The progress of a long command on stderr: a bar on a terminal, lines of text anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from anchordetr.console import duration

_LEAST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0  # seconds between two lines


@contextmanager
def progress(title: str, total: int, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show how many of ``total`` items are done, and the time left; the context's value counts items.

    On a terminal it is a bar. In a pipe or a file it is a line after every tenth of the items, but not within five
    seconds of the last one, and at least every minute; a short command prints nothing.

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
        is_tenth = 10 * (self._done - self._said) >= self._total
        if now - self._last < (_LEAST_PAUSE if is_tenth else _LONGEST_PAUSE) or self._done >= self._total:
            return
        self._last, self._said = now, self._done
        left = (now - self._start) / self._done * (self._total - self._done)
        print(f"{self._title}: {self._done} of {self._total}, {duration(left)} left", file=sys.stderr, flush=True)

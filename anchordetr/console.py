"""Progress bars and notes on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from anchordetr.distributed import is_main_process


class DownloadBar:
    """Shows the progress of a download; use it as a context manager."""

    def __init__(self, name: str) -> None:
        self.bar = Progress(
            TextColumn("fetching {task.description}"),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self.bar.add_task(name, total=None)

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
    """Print a note or a table on stderr; only the main process does."""
    if not is_main_process():
        return
    Console(stderr=True).print(note, highlight=False, soft_wrap=isinstance(note, str), markup=False)

"""Stop signals: SIGINT and SIGTERM end a run after the current step."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Catches the first SIGINT or SIGTERM; a second one has its usual effect. Use it as a context manager.

    Attributes:
        received: number of the signal that was received; 0 if none was.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}


def checked(function: Callable[P, R], check: Callable[[int, int], None], calls: int) -> Callable[P, R]:
    """Return a function that first calls ``check(number, calls)``, at its first ``calls`` calls, numbered from 0."""
    numbers = itertools.count()

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if (number := next(numbers)) < calls:
            check(number, calls)
        return function(*args, **kwargs)

    return call

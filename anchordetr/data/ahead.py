"""Work done ahead in threads: items are prepared while the caller uses those before them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = 0.5  # seconds in which threads end; those that read a slow address are left to themselves
_END = object()


def ahead(
    items: Iterable[Callable[[], Result]], threads: int, room: Callable[[], int]
) -> Generator[Callable[[], Result], None, None]:
    """Yield for each item, in order, a function that returns its result or raises its error.

    Items are taken and started while the caller uses those before them. Threads end with the generator, also when it is
    closed early; what they have not started by then is not done.

    Args:
        items: functions without arguments, called in threads.
        threads: how many.
        room: returns how many items may be started or finished, and not yielded yet; read before each item is taken.
    """
    waiting: deque[Future[Result]] = deque()
    source = iter(items)
    with _Threads[Result](threads) as workers:
        item: object = None
        while True:
            while item is not _END and len(waiting) < max(1, room()):
                if callable(item := next(source, _END)):
                    waiting.append(workers.start(item))
            if not waiting:
                return
            yield waiting.popleft().result


class _Threads(Generic[Result]):
    """Daemon threads that compute results; those of an executor would keep the process from ending after Ctrl-C."""

    def __init__(self, count: int) -> None:
        self._tasks: SimpleQueue[tuple[Future[Result], Callable[[], Result]] | None] = SimpleQueue()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def start(self, call: Callable[[], Result]) -> Future[Result]:
        future: Future[Result] = Future()
        self._tasks.put((future, call))
        return future

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._closed:
            future, call = task
            try:
                future.set_result(call())
            except BaseException as error:  # raised where the result is asked for
                future.set_exception(error)
            del task, future, call  # or the last image stays in memory until the next one

    def __enter__(self) -> _Threads[Result]:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        for _thread in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

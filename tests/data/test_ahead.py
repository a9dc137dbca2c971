"""Work done ahead in threads: order, errors, how much, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from anchordetr.data.ahead import ahead


def test_results_come_in_order_whatever_finishes_first() -> None:
    def finish(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    tasks = (partial(finish, number) for number in range(20))
    assert [result() for result in ahead(tasks, 4, lambda: 6)] == list(range(20))


def test_an_error_is_raised_where_its_result_is_asked_for() -> None:
    def divide(number: int) -> float:
        return 1 / number

    results = ahead((partial(divide, number) for number in (1, 0, 2)), 2, lambda: 3)
    assert next(results)() == 1.0
    with pytest.raises(ZeroDivisionError):
        next(results)()
    assert next(results)() == 0.5


@pytest.mark.parametrize("room", [0, 1, 3])
def test_no_more_is_taken_than_there_is_room_for(room: int) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[Callable[[], int]]:
        for number in range(10):
            taken.append(number)
            yield lambda: 0

    results = ahead(tasks(), 2, lambda: room)
    for used in range(1, 5):
        next(results)()
        assert len(taken) <= used + max(room, 1) - 1
    results.close()


def test_work_goes_on_while_the_caller_does_something_else() -> None:
    second = threading.Event()
    results = ahead([lambda: True, second.is_set, lambda: second.set() is None], 1, lambda: 3)
    next(results)()
    assert second.wait(5)
    results.close()


def test_threads_end_with_the_generator_and_start_nothing_more() -> None:
    before, calls = threading.active_count(), []
    results = ahead((partial(calls.append, number) for number in range(1000)), 3, lambda: 3)
    next(results)()
    assert threading.active_count() == before + 3
    results.close()
    assert threading.active_count() == before
    count = len(calls)
    assert count <= 3
    assert all(result() is None for result in ahead([lambda: None] * 5, 2, lambda: 2))
    assert threading.active_count() == before


def test_a_thread_that_hangs_does_not_keep_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchordetr.data.ahead._PATIENCE", 0.05)
    release = threading.Event()
    results = ahead([lambda: None, release.wait], 2, lambda: 2)
    next(results)()
    results.close()
    assert not release.is_set()
    release.set()

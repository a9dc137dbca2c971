"""Locks of files that are removed while others wait for them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from anchordetr import locks
from anchordetr.locks import Lock

pytestmark = pytest.mark.skipif(locks.fcntl is None, reason="this system has no flock")


def test_who_waited_for_a_file_that_was_removed_locks_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder, waiting = Lock(path), Lock(path)
    assert holder.acquire()
    thread = threading.Thread(target=waiting.acquire, kwargs={"wait": True})
    thread.start()
    path.unlink()
    holder.release()
    thread.join()
    assert not Lock(path).acquire()
    waiting.release()
    assert Lock(path).acquire()


def test_a_free_lock_whose_file_was_removed_after_it_was_opened_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "lock", os.open
    other = Lock(path)

    def open_and_lose(*arguments: object) -> int:
        descriptor = real(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(locks.os, "open", real)
        path.unlink()
        assert other.acquire()
        return descriptor

    monkeypatch.setattr(locks.os, "open", open_and_lose)
    assert not Lock(path).acquire()

"""Exclusive locks of files that end with their process, however it ends."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_UNSUPPORTED = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)


class Lock:
    """An exclusive lock between processes, and between the threads of one process (``flock``).

    The system releases it when the process ends. Forked processes do not inherit it.

    Args:
        path: of the lock's file, which is created if needed, and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, wait: bool = False) -> bool:
        """Take the lock, and return whether it was free; always true with ``wait``.

        Raises:
            OSError: the file cannot be opened, or its file system has no such locks.
        """
        if fcntl is None:
            raise OSError(errno.ENOTSUP, "This system has no flock")
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
            if _is_at(descriptor, self.path):
                break
            os.close(descriptor)  # its holder has removed the file, and others would lock a new one
        self._descriptor = descriptor
        _held.add(self)
        return True

    def write(self, text: str) -> None:
        """Replace the content of the lock's file, which anybody can read; the lock must be held."""
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Empty the file and give the lock back; nothing happens if it is not held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._close()

    def _close(self) -> None:
        """Close the file; a forked process does so without ending the lock of its parent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock and hold it; go on without one where the system has no locks.

    Raises:
        OSError: the lock's file cannot be opened.
    """
    lock = Lock(path)
    try:
        lock.acquire(wait=True)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    try:
        yield
    finally:
        lock.release()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _close_inherited() -> None:
    for lock in list(_held):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)

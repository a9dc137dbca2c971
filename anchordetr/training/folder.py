"""The folder of a run: who may use it, and whether it holds a run already."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from anchordetr.console import say
from anchordetr.disk import make_writable_folder
from anchordetr.distributed import is_main_process
from anchordetr.errors import InputError, by_user
from anchordetr.locks import Lock
from anchordetr.temporary import remove_abandoned
from anchordetr.training.state import holds_state, remove_states

log = logging.getLogger("anchordetr")

LOG_FILE = "log.jsonl"
_LOCK_FILE = ".lock"
_PRODUCTS = ("best/model.safetensors", "last/model.safetensors", "metrics.json")


@contextmanager
def run_folder(folder: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Create and lock the output folder of a run while it is in use; the main process does, for all.

    Args:
        folder: of the run.
        resume, overwrite: continue the run that it holds, or replace it.

    Raises:
        InputError: another process uses it, it already holds a run, or it cannot be written.
    """
    if not is_main_process():
        yield
        return
    make_writable_folder(folder)
    with run_lock(folder):
        for part in (folder, folder / "best", folder / "last"):
            remove_abandoned(part)
        if overwrite and not resume:
            remove_states(folder / "last")
        elif not resume:
            _require_no_run(folder)
        yield


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder; the main process does, for all. It ends with the process.

    Raises:
        InputError: another process holds it; the message says which one, where, and since when.
    """
    if not is_main_process():
        yield
        return
    lock = Lock(folder / _LOCK_FILE)
    try:
        is_free = lock.acquire()
    except OSError as error:
        log.warning("%s cannot be locked (%s); start no second run in it.", folder, error.strerror)
    else:
        if not is_free:
            raise InputError(f"{folder} is in use by {_describe_holder(lock.path)}; wait for its end, or stop it.")
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(OSError):  # a full disk
            lock.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "started": started}))
    try:
        yield
    finally:
        lock.release()


def _require_no_run(folder: Path) -> None:
    """Refuse a folder with a run; in one without, what a process left that was killed in its first save is no run."""
    if holds_state(folder / "last"):
        resume, other = by_user("--resume", "resume=True"), by_user("--output-dir", "output_dir")
        replace = by_user("--overwrite", "overwrite=True")
        raise InputError(
            f"{folder} already holds a run; resume it ({resume}), replace it ({replace}), or choose another {other}."
        )
    products = [name for name in _PRODUCTS if (folder / name).exists()]
    if products:
        raise InputError(
            f"{folder} holds {', '.join(products)} of a run that cannot be resumed, for it has no state; choose "
            f"another {by_user('--output-dir', 'output_dir')}, or move them away."
        )
    if (folder / "last").exists() or (folder / LOG_FILE).exists():
        say(f"The first save of a run in {folder} was interrupted; it starts over.")


def _describe_holder(file: Path) -> str:
    """Return who holds a lock, from its file, which is written just after the lock is taken."""
    for _ in range(20):
        with suppress(OSError, ValueError, KeyError, TypeError):
            holder = json.loads(file.read_text(encoding="utf-8"))
            return f"process {holder['process']} on {holder['host']}, started {holder['started']}"
        time.sleep(0.05)
    return "another process"

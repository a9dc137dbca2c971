"""stdout and stderr of the command line: UTF-8, and a reader that goes away or a full disk never stops the work."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

from anchordetr.console import printable


class _Output(io.RawIOBase):
    """Passes bytes on to a stream until that fails, keeps the error, and discards the rest."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                return self.stream.write(data)
            except OSError as error:
                self.error = error
        return len(data)


class _Warnings(logging.Handler):
    """Prints each record on one line of the current stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        print(printable(self.format(record)), file=sys.stderr)


@contextmanager
def protected_streams() -> Iterator[None]:
    """Print through streams that never fail, and the library's warnings on stderr, each on one line.

    A reader that has gone away (``| head``) or a closed stream is no error; with any other failure of stdout, such as
    a full disk, the process exits 1 at the end.
    """
    given = sys.stdout, sys.stderr
    sys.stdout, output = _protect(sys.stdout, sys.__stdout__)
    sys.stderr, _ = _protect(sys.stderr, sys.__stderr__)
    warnings = _Warnings(logging.WARNING)
    logger = logging.getLogger("anchordetr")
    logger.addHandler(warnings)
    try:
        yield
    finally:
        logger.removeHandler(warnings)
        sys.stdout.flush()
        if output is not None and output.error is not None and not isinstance(output.error, BrokenPipeError):
            print(f"anchordetr: stdout could not be written: {output.error.strerror}.", file=sys.stderr)
            raise SystemExit(1)
        sys.stderr.flush()
        sys.stdout, sys.stderr = given


def _protect(stream: TextIO | None, standard: TextIO | None) -> tuple[TextIO, _Output | None]:
    """Return a stream in the place of a given one; one that already replaces that of the process is only made UTF-8."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8"), None
    if not isinstance(stream, io.TextIOWrapper):
        return stream, None
    if stream is not standard:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
        return stream, None
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)  # with ``python -u`` there is no buffer
    output = _Output(raw)
    text = io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
    return text, output

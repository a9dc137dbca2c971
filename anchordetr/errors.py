"""Errors that a user can act on. Each message is a sentence that says what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A file, an image or a data set cannot be used as it is."""


class UsageError(ValueError):
    """A name, an option or a configuration key is wrong."""


class Stopped(Exception):
    """A run was told to stop; everything is saved, and the message says how to go on.

    Attributes:
        signal_number: which signal it was.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def closest_match(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name most like ``name``, or the list of known names."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else f" Known: {', '.join(known)}."


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

"""Errors caused by user input; each message is a sentence that says what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_LONGEST_NAME = 255  # characters; of a file, in most file systems
_LONGEST_REASON = 1000  # characters
_MOST_KNOWN = 100


class InputError(ValueError):
    """A file, an image or a data set is invalid."""


class WriteError(InputError, OSError):
    """A file cannot be written: the disk is full, the folder is read-only, and the like; old files are unchanged."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


class UsageError(ValueError):
    """A name, an option or a configuration key is invalid."""


class Stopped(Exception):
    """A run was stopped by a signal after its state was saved; the message says how to resume it.

    Attributes:
        signal_number: the number of the signal.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def closest_match(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` with the known name most similar to ``name``, or a list of known names."""
    known = sorted(known)
    matches = difflib.get_close_matches(limited(name), known, n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else f" Known: {listed(known, _MOST_KNOWN)}."


def limited(value: object, longest: int = _LONGEST_NAME) -> str:
    """Return a value that somebody else wrote as text for a message, cut to ``longest`` characters."""
    text = str(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def listed(names: Sequence[str], most: int) -> str:
    """Return up to ``most`` names, separated by commas, with an ellipsis if there are more; long ones are cut."""
    return ", ".join(map(limited, names[:most])) + (", ..." if len(names) > most else "")


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, cut if it is very long, or its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return limited(lines[0].rstrip("."), _LONGEST_REASON) if lines else type(error).__name__

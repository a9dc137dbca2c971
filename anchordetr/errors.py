"""Errors caused by user input; each message is a sentence that says what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

_FEW = 5
_LONGEST_NAME = 255  # characters; of a file, in most file systems
_LONGEST_REASON = 1000  # characters
_MOST_KNOWN = 5  # names that a message lists

_is_command_line = False


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


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to ``name``; None if none is similar."""
    matches = difflib.get_close_matches(limited(name), sorted(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def closest_match(name: str, known: Iterable[str], listing: str = "") -> str:
    """Return ``" Did you mean 'x'?"`` with the known name most similar to ``name``, or up to five known names.

    Args:
        name: what somebody wrote.
        known: all that they could have meant.
        listing: where all of them are listed, such as ``anchordetr list-models``; named if they are more than five.
    """
    known = sorted(known)
    if match := closest(name, known):
        return f" Did you mean '{match}'?"
    if len(known) <= _MOST_KNOWN:
        return f" Known: {listed(known, _MOST_KNOWN)}."
    nearest = difflib.get_close_matches(limited(name), known, n=_MOST_KNOWN, cutoff=0.0)
    all_of_them = f"; {listing} lists all {len(known):,}" if listing else f", ... ({len(known):,} in all)"
    return f" Known: {listed(nearest, _MOST_KNOWN)}{all_of_them}."


@contextmanager
def on_command_line() -> Iterator[None]:
    """Let messages name options of the command line instead of arguments of Python, in all threads."""
    global _is_command_line
    _is_command_line = True
    try:
        yield
    finally:
        _is_command_line = False


def by_user(option: str, argument: str) -> str:
    """Return how a user gives something: ``option`` on the command line, else ``argument`` of Python."""
    return option if _is_command_line else argument


def setting(key: str, value: str) -> str:
    """Return how a user changes one key of the configuration: ``--set KEY=VALUE``, or the setting of a Python call."""
    return by_user(f"--set {key}={value}", f"the setting {key}={value}")


def limited(value: object, longest: int = _LONGEST_NAME) -> str:
    """Return a value that somebody else wrote as text for a message, cut to ``longest`` characters."""
    text = str(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def listed(names: Sequence[str], most: int) -> str:
    """Return up to ``most`` names, separated by commas, with an ellipsis if there are more; long ones are cut."""
    return ", ".join(map(limited, names[:most])) + (", ..." if len(names) > most else "")


def classes(names: Sequence[str]) -> str:
    """Return the number of classes and the first five names for a message: ``3 classes (cat, dog, owl)``."""
    return f"{len(names)} {'class' if len(names) == 1 else 'classes'} ({listed(names, _FEW)})"


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, cut if it is very long, or its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return limited(lines[0].rstrip("."), _LONGEST_REASON) if lines else type(error).__name__

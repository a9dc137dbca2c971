"""The rule of all fuzzing: any input is read, or refused by the library's error with a sentence that names the file."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from anchordetr.cli.main import run
from anchordetr.errors import InputError, UsageError

ACCEPTED, REFUSED = "accepted", "refused"
_LONGEST = 4000  # characters of a message
_SENTENCE = re.compile(r"\S.*[.?]", re.DOTALL)


@dataclass(frozen=True)
class FileTarget:
    """A file and its reader.

    Attributes:
        file: receives the mutated bytes.
        read: reads the file, and what a user does next with it.
        mutate: returns the content of a mutated file.
        named: what every error names; the file by default.
    """

    file: Path
    read: Callable[[], object]
    mutate: Callable[[Random], bytes]
    named: str = ""

    def outcome(self, content: bytes) -> str:
        """Write the file and read it; raise AssertionError if the rule is broken, and let other errors pass."""
        self.file.unlink(missing_ok=True)  # tensors of an earlier content may be mapped from it
        self.file.write_bytes(content)
        try:
            self.read()
        except (InputError, UsageError) as error:
            message = str(error)
            assert (self.named or str(self.file)) in message, f"the file is not named: {message}"
            assert _SENTENCE.fullmatch(message), f"no sentence: {message}"
            assert len(message) < _LONGEST, f"{len(message)} characters: {message[:_LONGEST]}"
            return REFUSED
        return ACCEPTED


@dataclass(frozen=True)
class CommandTarget:
    """The command line, in this process.

    Attributes:
        mutate: returns mutated arguments.
    """

    mutate: Callable[[Random], list[str]]

    def outcome(self, arguments: Sequence[str]) -> str:
        """Run a command; raise AssertionError unless it succeeds or prints an error of one line."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(printed):
            try:
                run(arguments)
            except SystemExit as ended:
                code = ended.code
        last = printed.getvalue().rstrip("\n").rsplit("\n", 1)[-1]
        assert code in (0, 1, 2), f"exit code {code}: {last}"
        assert "add --debug to see where" not in last, last
        assert code == 0 or not last or _SENTENCE.fullmatch(last), f"no sentence: {last}"
        return REFUSED if code else ACCEPTED


Target = FileTarget | CommandTarget

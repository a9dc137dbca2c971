"""Running the command line inside a test."""

from __future__ import annotations

import pytest

from anchordetr.cli.main import run


def call(*arguments: object) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as exit_info:
        run([str(argument) for argument in arguments])
    return int(exit_info.value.code or 0)

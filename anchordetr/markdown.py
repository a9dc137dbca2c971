"""Names that somebody else chose inside Markdown: they stay text."""

from __future__ import annotations

import html
import re

from anchordetr.console import printable

_SPECIAL = re.compile(r"[\\`*\[\]~$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore inside a word means nothing


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line and inside one cell of a table."""
    return _SPECIAL.sub(r"\\\g<0>", html.escape(printable(text), quote=False)).replace("|", "&#124;")


def code(text: str) -> str:
    """Return a text as code on one line, also if it holds backticks."""
    text = printable(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"

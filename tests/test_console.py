"""Text for the terminal."""

from __future__ import annotations

import pytest

from anchordetr.console import printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Straße 道路 👩‍🚒 [/bold]", "Straße 道路 👩‍🚒 [/bold]"),
        ("\x1b[2J\x07\r", "\\x1b[2J\\x07\\r"),
        ("a\nb\tc\x85", "a\\nb\\tc\\x85"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202egpj.\u2066x\u2028", "\\u202egpj.\\u2066x\\u2028"),
        ("\ud800\udcff", "\\ud800\\udcff"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).encode()


def test_a_note_keeps_its_lines_and_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    say("classes:\n  [/bold] \x1b[1m")
    assert capsys.readouterr().err == "classes:\n  [/bold] \\x1b[1m\n"

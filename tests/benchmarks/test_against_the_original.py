"""The comparison with the original's order of operations, on an image of a few pixels; never how fast."""

from __future__ import annotations

import sys

import against_the_original
import pytest


@pytest.mark.parametrize(
    ("what", "candidates"),
    [
        ("inference", ["as the original", "as built", "optimized float32", "optimized bfloat16"]),
        pytest.param(
            "training",
            ["as the original", "as built", "gradient checkpointing", "bfloat16"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_candidate_is_compared(
    what: str, candidates: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [what, "--size", "64x96", "--rounds", "1", "--objects", "3"]
    monkeypatch.setattr(sys, "argv", ["against_the_original.py", *arguments])
    against_the_original.main()
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{what} at 64x96")
    assert [row[:24].strip() for row in rows] == candidates
    assert all("times as fast" in row for row in rows)

"""The cost of digests, on a small model."""

from __future__ import annotations

import sys

import digest_cost
import pytest


def test_loads_are_timed_with_and_without_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["digest_cost.py", "--model", "anchordetr_tiny", "--rounds", "1"])
    digest_cost.main()
    assert "without" in capsys.readouterr().out

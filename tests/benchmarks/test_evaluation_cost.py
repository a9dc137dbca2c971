"""The cost of evaluation, on a few generated images."""

from __future__ import annotations

import sys

import evaluation_cost
import pytest


def test_both_evaluations_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluation_cost.py", "--images", "4"])
    evaluation_cost.main()
    assert "times as long" in capsys.readouterr().out

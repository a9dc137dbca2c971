"""What fuzzing has found stays mended."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.corpus import CORPUS
from fuzz.outcome import ACCEPTED, REFUSED
from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = TARGETS[name](tmp_path)
    for content in CORPUS[name]:
        assert target.outcome(content) in (ACCEPTED, REFUSED)

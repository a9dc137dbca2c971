"""The measurement of memory itself."""

from __future__ import annotations

import pytest
import torch

from anchordetr.profiling.peak_memory import Enter, peak_bytes, stage_memory

CPU = torch.device("cpu")


def test_peak_counts_what_is_held_at_once() -> None:
    def run() -> None:
        first = torch.empty(1000, dtype=torch.float32)
        second = torch.empty(2000, dtype=torch.float32)
        del first
        third = torch.empty(500, dtype=torch.float32)
        del second, third

    assert peak_bytes(run, CPU) == pytest.approx(12000, abs=200)


def test_stages_count_what_they_hold_and_what_they_need() -> None:
    kept = []

    def run(enter: Enter) -> None:
        enter("first")
        kept.append(torch.empty(1000, dtype=torch.float32))
        enter("second")
        scratch = torch.empty(3000, dtype=torch.float32)
        del scratch
        enter("third")
        kept.clear()

    stages = stage_memory(run, CPU)
    assert list(stages) == ["first", "second", "third"]
    assert stages["first"].held == pytest.approx(4000, abs=200)
    assert stages["second"].peak == pytest.approx(16000, abs=200)
    assert stages["second"].held == pytest.approx(4000, abs=200)
    assert stages["third"].held == pytest.approx(0, abs=200)

"""Memory measurements against what is known."""

from __future__ import annotations

import pytest
import torch

from anchordetr.analysis.memory import peak_bytes, profile_attention
from anchordetr.errors import UsageError

CPU = torch.device("cpu")


def test_peak_counts_what_is_held_at_once() -> None:
    def run() -> None:
        first = torch.empty(1000, dtype=torch.float32)
        second = torch.empty(2000, dtype=torch.float32)
        del first
        third = torch.empty(500, dtype=torch.float32)
        del second, third

    assert peak_bytes(run, CPU) == pytest.approx(12000, abs=200)


def test_attention_maps_and_z_have_the_papers_sizes() -> None:
    rows = {row.attention: row for row in profile_attention(320, 512, ["dc5"], CPU, embed_dim=64, num_heads=4)}
    height, width = 20, 32
    cells = height * width
    assert rows["standard"].map_bytes == 4 * 4 * cells * cells
    assert rows["rcda"].map_bytes == 4 * 4 * cells * (height + width)
    assert rows["rcda"].z_bytes == 4 * cells * height * 64
    assert rows["rcda"].paper_ratio == rows["standard"].map_bytes / rows["rcda"].z_bytes == 32 * 4 / 64
    for row in rows.values():
        assert row.forward_bytes is not None
        assert row.training_bytes is not None
        assert row.training_bytes >= row.forward_bytes >= row.map_bytes + row.z_bytes
    assert rows["rcda"].measured_ratio is not None
    assert rows["rcda"].measured_ratio > 1


def test_what_does_not_fit_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchordetr.analysis.memory.free_memory", lambda device: 1 << 20)
    rows = {row.attention: row for row in profile_attention(320, 512, ["c3"], CPU)}
    assert rows["standard"].forward_bytes is None
    assert rows["fused"].forward_bytes is not None


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(UsageError, match="Unknown feature level 'c2'"):
        profile_attention(64, 64, ["c2"], CPU)

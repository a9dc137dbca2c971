"""Memory of attention layers against what is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anchordetr.errors import UsageError
from anchordetr.profiling.attention_memory import KINDS, profile_attention
from anchordetr.visualize.plots import plot_attention_memory

CPU = torch.device("cpu")


def test_measured_peaks_are_within_a_tenth_of_the_predicted_ones() -> None:
    rows = profile_attention(640, 768, ["dc5"], CPU)
    assert [row.attention for row in rows] == [kind for kind in KINDS if kind != "rcda triton"]
    for row in rows:
        for cost in (row.inference, row.training):
            assert cost.measured_bytes is not None
            assert cost.seconds is not None
            assert cost.predicted_bytes == pytest.approx(cost.measured_bytes, rel=0.1), row.attention


def test_attention_maps_and_z_have_the_papers_sizes() -> None:
    kinds = ["rcda reference", "rcda tiled", "standard"]
    rows = profile_attention(320, 512, ["dc5"], CPU, kinds, embed_dim=64, num_heads=4)
    reference, tiled, standard = rows
    height, width = 20, 32
    locations = height * width
    assert standard.map_bytes == 4 * 4 * locations * locations
    assert reference.map_bytes == 4 * 4 * locations * (height + width)
    assert reference.z_bytes == 4 * locations * height * 64
    assert reference.paper_ratio == standard.map_bytes / reference.z_bytes == 32 * 4 / 64
    assert reference.inference.measured_bytes is not None
    assert reference.inference.measured_bytes > reference.z_bytes
    assert tiled.inference.measured_bytes is not None
    assert tiled.measured_ratio is not None
    assert standard.measured_ratio == 1.0


def test_what_does_not_fit_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchordetr.profiling.attention_memory.free_memory", lambda device: 20 << 20)
    rows = {row.attention: row for row in profile_attention(320, 512, ["c5"], CPU, ["standard", "fused"])}
    assert rows["standard"].inference.measured_bytes is not None
    rows = {row.attention: row for row in profile_attention(320, 512, ["dc5"], CPU, ["standard", "fused"])}
    assert rows["standard"].inference.measured_bytes is None
    assert rows["standard"].inference.predicted_bytes > 0
    assert rows["fused"].inference.measured_bytes is not None


def test_a_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra anchordetr[plots]")
    rows = profile_attention(128, 128, ["c5", "dc5"], CPU, ["rcda tiled", "fused"])
    plot_attention_memory(rows, tmp_path / "chart.svg")
    drawn = (tmp_path / "chart.svg").read_text()
    assert drawn.count("<svg") == 1
    assert len(drawn) > 5000


@pytest.mark.parametrize(("features", "kinds", "message"), [("c2", "fused", "level 'c2'"), ("c5", "fuse", "'fuse'")])
def test_unknown_names_are_named(features: str, kinds: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"Unknown .*{message}"):
        profile_attention(64, 64, [features], CPU, [kinds])

"""The benchmark of attention: which candidates each case has; never how fast."""

from __future__ import annotations

import torch

from anchordetr.profiling.attention_speed import AttentionCase, benchmark_rcda

CPU = torch.device("cpu")


def test_every_case_has_its_candidates_and_ratios_to_sdpa() -> None:
    timings = benchmark_rcda(AttentionCase(5, 6, heads=2, depth=8), CPU, ("reference", "auto"), rounds=1)
    candidates: dict[str, list[str]] = {}
    for timing in timings:
        candidates.setdefault(timing.case, []).append(timing.candidate)
        assert timing.seconds > 0
        assert timing.peak_bytes > 0
        assert timing.candidate != "sdpa" or timing.ratio == 1.0
    operators = ["sdpa", "rcda reference", "rcda auto"]
    layers = ["sdpa", "nn.MultiheadAttention", "RowColumnAttention"]
    assert candidates == {
        "operator forward": operators,
        "operator forward + backward": operators,
        "layer forward": layers,
        "layer forward + backward": layers,
    }


def test_a_case_says_the_dtype() -> None:
    case = AttentionCase(3, 4, heads=2, depth=8, batch=2, dtype=torch.bfloat16)
    assert len(benchmark_rcda(case, CPU, ["reference"], rounds=1)) == 10

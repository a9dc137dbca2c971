"""The measurement of speed: who is measured, in which order, and what is reported; never how fast."""

from __future__ import annotations

import torch

from anchordetr.profiling.timing import benchmark_rcda, describe_machine, time_in_turn

CPU = torch.device("cpu")


def test_rivals_run_in_turn_in_both_orders() -> None:
    calls: list[str] = []
    seconds = time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, CPU, rounds=2)
    assert "".join(calls) == "abab" + "ab" + "ba"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_every_contest_has_its_rivals_and_ratios_to_sdpa() -> None:
    timings = benchmark_rcda(5, 6, CPU, torch.float32, heads=2, depth=8, rounds=1, backends=("reference", "auto"))
    rivals: dict[str, list[str]] = {}
    for timing in timings:
        rivals.setdefault(timing.contest, []).append(timing.rival)
        assert timing.seconds > 0
        assert timing.peak_bytes > 0
        assert timing.rival != "sdpa" or timing.ratio == 1.0
    assert rivals["operator forward"] == ["sdpa", "rcda reference", "rcda auto"]
    assert rivals["layer forward + backward"] == ["sdpa", "nn.MultiheadAttention", "RowColumnAttention"]


def test_the_machine_is_described() -> None:
    machine = describe_machine(CPU)
    assert machine["torch"] == torch.__version__
    assert machine["device"]
    assert machine["threads"] == torch.get_num_threads()

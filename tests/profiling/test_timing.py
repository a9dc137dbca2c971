"""The measurement of speed: which candidates run, in which order, and what is reported; never how fast."""

from __future__ import annotations

import time

import pytest
import torch

from anchordetr.machine import describe_machine
from anchordetr.profiling.timing import compare, time_in_turn

CPU = torch.device("cpu")


def test_candidates_run_in_turn_in_both_orders() -> None:
    calls: list[str] = []
    seconds = time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, CPU, rounds=2)
    assert "".join(calls) == "abab" + "ab" + "ba"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_candidates_are_compared_with_the_baseline() -> None:
    tensors = [torch.empty(0)]

    def allocate() -> None:
        tensors[0] = torch.empty(4000)

    fast, slow = compare("wait", {"fast": allocate, "slow": lambda: time.sleep(0.01)}, "slow", CPU, rounds=3)
    assert (fast.case, fast.candidate, slow.candidate) == ("wait", "fast", "slow")
    assert slow.ratio == 1.0
    assert slow.seconds >= 0.01
    assert fast.ratio == slow.seconds / fast.seconds > 1
    assert fast.peak_bytes == pytest.approx(16000, abs=200)


def test_the_machine_is_described() -> None:
    machine = describe_machine(CPU)
    assert machine["torch"] == torch.__version__
    assert machine["device"]
    assert machine["threads"] == torch.get_num_threads()

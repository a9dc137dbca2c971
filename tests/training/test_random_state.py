"""The random numbers of a process, saved and restored."""

from __future__ import annotations

import random

import torch

from anchordetr.training.random_state import get_random_state, set_random_state


def test_random_states_come_back() -> None:
    import numpy as np

    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    state = get_random_state()
    first = draw()
    set_random_state(state)
    assert draw() == first

"""Devices."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.device import choose_device
from anchordetr.errors import UsageError


@pytest.mark.parametrize(
    "name", ["meta", "meta:0", "hpu", "privateuseone", "vulkan", "cuda:99", "cpu:x", "", "GPU 0", 1.5, []]
)
def test_a_device_that_cannot_compute_is_refused(name: Any, small_config: Config) -> None:
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(UsageError, match="cannot be used; this machine has cpu"),
    ):
        Detector(small_config, device=name)


def test_devices_that_compute() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")

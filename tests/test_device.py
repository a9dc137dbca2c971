"""Devices."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.device import choose_device
from anchordetr.errors import UsageError


@pytest.mark.parametrize(
    "name",
    [
        "meta",
        "meta:0",
        "hpu",
        "privateuseone",
        "vulkan",
        "cuda:99",
        "cpu:x",
        "",
        "GPU 0",
        "0,1",
        1.5,
        [],
        True,
        -1,
        99,
        "99",
    ],
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


def test_a_number_is_a_gpu_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ones(count: int, device: str) -> torch.Tensor:
        asked.append(device)
        return torch.zeros(count)

    monkeypatch.setattr(torch, "ones", ones)
    for name in (0, "0", "1", " CUDA:1 ", "mps", torch.device("cuda", 1), "gpu"):
        choose_device(name)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    choose_device("gpu")
    assert asked == ["cuda:0", "cuda:0", "cuda:1", "cuda:1", "mps", "cuda:1", "cuda:0", "mps"]


def test_the_message_lists_what_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(UsageError, match=r"'cpux' cannot .* has cpu, cuda:0 \(Card 0\), cuda:1 \(Card 1\), mps\."):
        choose_device("cpux")


def test_auto_takes_cuda_or_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", lambda count, device: torch.zeros(count) if device == "cuda:1" else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    choose_device("auto")


def test_a_detector_moves_to_another_device(small_config: Config) -> None:
    detector = Detector(small_config, device="cpu")
    image = np.zeros((48, 48, 3), dtype=np.uint8)
    expected = detector.predict(image, 0.0).xyxy
    detector.model.double()
    detector.model.float()
    assert detector.to("cpu") is detector
    assert detector.device == torch.device("cpu")
    np.testing.assert_array_equal(detector.predict(image, 0.0).xyxy, expected)
    with pytest.raises(UsageError, match="this machine has"):
        detector.to("cuda:99")
    assert detector.device == torch.device("cpu")

"""Numbers for TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.errors import UsageError


def test_tensorboard_gets_the_numbers(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: Path) -> None:
            assert folder == tmp_path / "run" / "tensorboard"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            seen.append((name, step))

        def close(self) -> None:
            seen.append(("closed", 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    Detector(small_config, device="cpu").train(coco_folder, tmp_path / "run", epochs=2, tensorboard=True)
    assert [step for name, step in seen if name == "step/total"] == [0, 1, 2, 3]
    assert [step for name, step in seen if name == "epoch/ap"] == [1, 2]
    assert seen[-1] == ("closed", 0)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install anchordetr\[tensorboard\]"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / "other", epochs=1, tensorboard=True)

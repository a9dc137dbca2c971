"""Loading of saved models by path and by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from anchordetr import Detector
from anchordetr.errors import InputError


def test_a_run_whose_best_model_is_damaged_loads_its_last(
    detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("best", "last"):
        detector.save_pretrained(tmp_path / name)
    (tmp_path / "best" / "model.safetensors").write_bytes(b"half")
    assert Detector.from_pretrained(tmp_path, device="cpu").class_names == ["cat", "dog", "ox"]
    assert "best/model.safetensors is damaged" in capsys.readouterr().err.replace("\n", "")
    (tmp_path / "last" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match=r"last/model\.safetensors is damaged"):
        Detector.from_pretrained(tmp_path, device="cpu")


def test_an_unknown_name_suggests_the_closest_one() -> None:
    with pytest.raises(InputError, match="Did you mean 'anchordetr_r50_dc5'"):
        Detector.from_pretrained("anchordetr_r50_dc6")


def test_a_preset_without_weights_points_to_the_detector() -> None:
    with pytest.raises(
        InputError, match=r"no published weights. Detector\('anchordetr_tiny'\), or --model anchor.*_r50_c5"
    ):
        Detector.from_pretrained("anchordetr_tiny")

"""Comparing what training runs have saved."""

from __future__ import annotations

from pathlib import Path

import torch

from anchordetr import Detector
from anchordetr.weights.saved_model import read_model


def saved_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a saved model."""
    return Detector.from_pretrained(folder, device="cpu").model.state_dict()


def assert_same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Compare names and values of tensors, bit for bit."""
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def assert_same_runs(first: Path, second: Path) -> None:
    """Compare models, logs and metrics of two runs, bit for bit."""
    for name in ("best", "last"):
        one, two = (read_model(folder / name).weights for folder in (first, second))
        assert one.keys() == two.keys()
        assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())
    for name in ("log.jsonl", "log.csv", "metrics.json"):
        assert (first / name).read_text() == (second / name).read_text()

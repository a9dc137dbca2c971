"""Gradient checkpointing keeps gradients and names, and holds less."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anchordetr import Detector
from anchordetr.config import Config, ModelConfig
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import MapPositions
from anchordetr.layers.recompute import recomputing
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.profiling.peak_memory import peak_bytes
from anchordetr.training import builder

IMAGES = [torch.randn(3, 96, 128), torch.randn(3, 80, 128)]


def layers(model: AnchorDETR) -> list[torch.nn.Module]:
    return [*model.encoder.layers, *model.decoder.layers]


def is_rounding_alone(name: str) -> bool:
    """Whether a true gradient is zero: a group norm follows, or a softmax to which a bias of all keys means nothing."""
    return name == "projection.convolutions.0.bias" or name.endswith("in_proj_bias")


def gradients(model: AnchorDETR, recomputed: list[torch.nn.Module]) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(0)
    with recomputing(recomputed):
        model(IMAGES).boxes.sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_the_same(dropout: float, small_model: ModelConfig) -> None:
    model = build_model(small_model.model_copy(update={"dropout": dropout})).train()
    torch.nn.init.normal_(model.heads.box_head.layers[-1].weight)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    plain, recomputed = gradients(model, []), gradients(model, layers(model))
    assert plain.keys() == recomputed.keys()
    for name, value in plain.items():
        if not is_rounding_alone(name):
            torch.testing.assert_close(recomputed[name], value, atol=2e-5, rtol=1e-5, msg=name)


def test_layers_are_as_before_afterwards(small_model: ModelConfig) -> None:
    model = build_model(small_model)
    names = list(model.state_dict())
    with recomputing(layers(model)):
        assert list(model.state_dict()) == names
        assert copy.deepcopy(model)(IMAGES).boxes.isfinite().all()
    assert all("forward" not in vars(layer) for layer in layers(model))


def test_less_is_held(small_model: ModelConfig) -> None:
    model = build_model(small_model.model_copy(update={"encoder_layers": 6, "ffn_dim": 512})).train()
    values = torch.randn(2, 32, 32, 32)
    centers, encoder = (torch.arange(32) + 0.5)[None] / 32, model.projection.key_encoder

    def run(recomputed: list[torch.nn.Module]) -> Callable[[], object]:
        def step() -> None:
            with recomputing(recomputed):
                memory = Memory(values.requires_grad_(), MapPositions(centers, centers, encoder), encoder)
                model.encoder(memory).values.sum().backward()

        return step

    cpu = torch.device("cpu")
    assert peak_bytes(run(list(model.encoder.layers)), cpu) < 0.5 * peak_bytes(run([]), cpu)


def test_a_detector_trains_with_it(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def counted(layers: list[torch.nn.Module]) -> AbstractContextManager[None]:
        held.append(len(layers))
        return recomputing(layers)

    monkeypatch.setattr(builder, "recomputing", counted)
    plain, recomputed = (Detector(small_config, device="cpu") for _ in range(2))
    plain.train(coco_folder, tmp_path / "plain", epochs=1)
    recomputed.train(coco_folder, tmp_path / "recomputed", epochs=1, gradient_checkpointing=True)
    assert held == [0, 3]
    first, second = (json.loads((tmp_path / run / "log.jsonl").read_text()) for run in ("plain", "recomputed"))
    assert second["loss_total"] == pytest.approx(first["loss_total"], rel=1e-4)

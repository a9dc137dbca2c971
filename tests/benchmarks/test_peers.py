"""The peers behind the library's trainer: scores, initialisation, and one small comparison from end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import compare_peers
import peers
import pytest
import torch
import training_curves
from small_ablation import SMALL
from torch import nn

from anchordetr.config import ModelConfig
from anchordetr.errors import InputError, UsageError
from anchordetr.postprocess import postprocess
from anchordetr.training.optim import build_optimizer
from anchordetr.types import ImageBatch, Predictions, Target

NORMS = {nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm}
IMAGES = ImageBatch(torch.randn(2, 3, 64, 96), ((64, 96), (48, 80)))


@pytest.fixture
def with_transformers() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed; the peers are its networks")


def build(name: str, config: ModelConfig) -> peers.Peer:
    torch.manual_seed(0)
    return peers.build_peer(name, config)


def test_scores_of_a_softmax_are_those_of_detr() -> None:
    logits, boxes = 3 * torch.randn(1, 30, 5), torch.rand(1, 30, 4)
    scores, labels = logits.softmax(-1)[0, :, :-1].max(-1)
    order = scores.argsort(descending=True)
    predictions = Predictions(peers.softmax_scores_as_logits(logits)[None], boxes[None], boxes[..., :2], 30)
    (found,) = postprocess(predictions, [(10, 10)], top_k=30)
    torch.testing.assert_close(torch.from_numpy(found.confidence), scores[order])
    assert found.class_id.tolist() == labels[order].tolist()


def test_without_transformers_a_line_says_what_to_install(
    small_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="pip install transformers"):
        peers.build_peer("detr", small_model)


@pytest.mark.usefixtures("with_transformers")
@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_learns_with_the_librarys_backbone(name: str, small_model: ModelConfig) -> None:
    peer = build(name, small_model).train()
    targets = [
        Target(torch.rand(3, 4) / 4 + 0.3, torch.tensor([0, 1, 2])),
        Target(torch.zeros(0, 4), torch.zeros(0).long()),
    ]
    losses = peers.PeerCriterion()(peer(IMAGES), targets, torch.tensor(3.0))
    losses.total.backward()
    assert {key: value.isfinite().item() for key, value in losses.terms.items()} == dict.fromkeys(
        ("class", "box", "giou"), True
    )
    assert peer.network.model.backbone.body is peer.backbone.body
    first = next(value for value in peer.backbone.parameters() if value.requires_grad)
    assert first.grad is not None
    assert first.grad.abs().max() > 0
    others, backbone = build_optimizer(peer, 1e-3, 1e-4, 0.0).param_groups
    assert {id(value) for value in backbone["params"]} == {id(value) for value in peer.backbone.parameters()}
    assert len(others["params"]) > 20


@pytest.mark.usefixtures("with_transformers")
@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_is_initialised_as_published(name: str, small_model: ModelConfig) -> None:
    peer = build(name, small_model).eval()
    with torch.no_grad():
        predictions = peer(ImageBatch(torch.randn(1, 3, 64, 96), ((64, 96),)))
    assert predictions.logits.shape == (1, 1, 18, 3)
    norms = [
        module for part, module in peer.network.named_modules() if type(module) in NORMS and "backbone" not in part
    ]
    assert norms
    assert all((norm.weight == 1).all() for norm in norms)
    if name != "detr":
        assert predictions.logits.sigmoid().max() < 0.2
        assert predictions.boxes[..., :2].std(dim=2).min() > 0.03  # the queries differ in their places


@pytest.mark.usefixtures("with_transformers")
@pytest.mark.parametrize("name", ["deformable_detr", "rt_detr"])
def test_several_maps_are_read_at_any_size(name: str, small_model: ModelConfig) -> None:
    peer = build(name, small_model.model_copy(update={"features": "c4_c5"})).eval()
    with torch.no_grad():
        assert peer(ImageBatch(torch.randn(1, 3, 72, 90), ((72, 90),))).boxes.shape == (1, 1, 18, 4)


@pytest.mark.usefixtures("with_transformers")
def test_boxes_of_rt_detr_are_fractions_of_the_image_without_its_padding(small_model: ModelConfig) -> None:
    peer = build("rt_detr", small_model).eval()
    with torch.no_grad():
        padded = peer(ImageBatch(IMAGES.pixels, ((48, 80),) * 2))
        whole = peer(ImageBatch(IMAGES.pixels, ((64, 96),) * 2))
    pixels = torch.tensor([80, 48, 80, 48])
    torch.testing.assert_close(padded.boxes * pixels, whole.boxes * torch.tensor([96, 64, 96, 64]))
    target = Target(torch.tensor([[0.5, 0.5, 0.2, 0.4]]), torch.tensor([1]))
    labels: list[list[dict[str, torch.Tensor]]] = []
    peer.network = RecordsLabels(labels)
    with pytest.raises(StopIteration):
        peer.train()(ImageBatch(torch.zeros(1, 3, 64, 96), ((48, 80),)))([target])
    torch.testing.assert_close(labels[0][0]["boxes"] * torch.tensor([96, 64, 96, 64]), target.boxes * pixels)


class RecordsLabels(nn.Module):
    """A network that keeps the labels that it is given, and stops."""

    def __init__(self, kept: list[Any]) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor, labels: object) -> None:
        self.kept.append(labels)
        raise StopIteration


@pytest.mark.usefixtures("with_transformers")
def test_rt_detr_needs_as_many_locations_as_queries(small_model: ModelConfig) -> None:
    peer = build("rt_detr", small_model.model_copy(update={"num_anchors": 36})).eval()
    with pytest.raises(UsageError, match=r"72 queries among the locations of its maps, here 24"):
        peer(ImageBatch(torch.randn(1, 3, 64, 96), ((64, 96),)))


@pytest.mark.usefixtures("with_transformers")
def test_a_small_comparison(
    tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    flags = ["--data", coco_folder, "--output", tmp_path, "--epochs", "1", "--rounds", "1", "--target-ap", "0.5"]
    arguments = [*flags, "--models", "ours", "ours_local_init", "detr", "deformable_detr", "--set", *SMALL]
    monkeypatch.setattr(sys, "argv", ["compare_peers.py", *map(str, arguments)])
    training_curves.run_command(compare_peers.main)
    table = capsys.readouterr().out
    for name in ("ours", "ours_local_init", "detr", "deformable_detr"):
        kept = json.loads((tmp_path / coco_folder.name / "results" / f"{name}_seed0.json").read_text())
        assert [entry["images"] for entry in kept["history"]] == [8]
        assert f"| {name} | 8 | {kept['history'][-1]['ap']:.3f} (1) |" in table
    monkeypatch.setattr(compare_peers, "build_network", None)  # nothing is trained again
    training_curves.run_command(compare_peers.main)
    assert capsys.readouterr().out == table

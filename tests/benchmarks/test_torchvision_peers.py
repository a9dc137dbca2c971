"""torchvision's detectors behind the library's trainer: losses, detections, padding and anchors."""

from __future__ import annotations

import peers
import pytest
import torch
import torchvision_peers
from torch.testing import assert_close

from anchordetr.config import ModelConfig
from anchordetr.postprocess import postprocess
from anchordetr.training.optim import build_optimizer
from anchordetr.types import ImageBatch, Target

SIZES = ((64, 96), (48, 80))
TARGETS = [
    Target(torch.tensor([[0.3, 0.4, 0.3, 0.5], [0.7, 0.6, 0.4, 0.4]]), torch.tensor([0, 2])),
    Target(torch.zeros(0, 4), torch.zeros(0).long()),
]
each_peer = pytest.mark.parametrize("name", torchvision_peers.TORCHVISION_PEERS)


def images(padding: float = 0.0) -> ImageBatch:
    """Return two images, the second one smaller, with some value in its padding."""
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    pixels[1, :, 48:] = padding
    pixels[1, :, :, 80:] = padding
    return ImageBatch(pixels, SIZES)


def build(name: str, config: ModelConfig) -> torchvision_peers.TorchvisionPeer:
    torch.manual_seed(0)
    return torchvision_peers.build_torchvision_peer(name, config, short_side=64)


def losses(peer: torchvision_peers.TorchvisionPeer, batch: ImageBatch) -> torch.Tensor:
    torch.manual_seed(0)  # Faster R-CNN draws the boxes that it learns from
    found = peers.PeerCriterion()(peer(batch, TARGETS), TARGETS, torch.tensor(2.0))
    assert set(found.terms) == {"class", "box", "giou"}
    assert found.terms["class"] > 0
    return found.total


@each_peer
def test_it_learns_with_the_librarys_backbone(name: str, small_model: ModelConfig) -> None:
    peer = build(name, small_model).train()
    optimizer = build_optimizer(peer, 3e-3, 1e-3, 0.0)
    others, backbone = optimizer.param_groups
    assert {id(value) for value in backbone["params"]} == {id(value) for value in peer.backbone.parameters()}
    assert peer.network.backbone.body is peer.backbone.body
    assert len(others["params"]) > 10
    start = [value.detach().clone() for value in backbone["params"]]
    totals = []
    for _ in range(16):
        total = losses(peer, images())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.75 * totals[0]
    assert any(not value.equal(before) for value, before in zip(backbone["params"], start, strict=True))


@each_peer
def test_its_detections_are_those_of_torchvision(name: str, small_model: ModelConfig) -> None:
    peer, batch = build(name, small_model).eval(), images()
    with torch.no_grad():
        found = postprocess(peer(batch), SIZES)
        own = peer.network([pixels[:, :h, :w] for pixels, (h, w) in zip(batch.pixels, SIZES, strict=True)])
    for detections, expected, (height, width) in zip(found, own, SIZES, strict=True):
        count = len(detections)
        assert count == 100
        scores, order = expected["scores"].sort(descending=True, stable=True)
        assert_close(torch.from_numpy(detections.confidence), scores[:count], rtol=1e-4, atol=1e-5)
        boxes = torch.from_numpy(detections.xyxy)
        assert (boxes >= -1e-3).all()
        assert (boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()
        assert_close(boxes[:1], expected["boxes"][order[:1]], rtol=1e-4, atol=1e-3)
        first = expected["labels"][order[0]] - peer.first_label
        assert detections.class_id[0] == first
        assert set(detections.class_id) <= {0, 1, 2}


@each_peer
def test_what_is_in_the_padding_does_not_matter(name: str, small_model: ModelConfig) -> None:
    peer = build(name, small_model)
    assert_close(losses(peer.train(), images(9.0)), losses(peer, images()))
    with torch.no_grad():
        noisy, clean = peer.eval()(images(9.0)), peer(images())
    assert_close(noisy.boxes, clean.boxes)
    assert_close(noisy.logits, clean.logits)


def test_an_image_without_detections_has_none_of_another() -> None:
    peer = torchvision_peers.TorchvisionPeer(
        backbone=torch.nn.Identity(), network=torch.nn.Identity(), num_classes=3, first_label=1
    )
    one = {"boxes": torch.tensor([[8.0, 4, 24, 12]]), "scores": torch.tensor([0.75]), "labels": torch.tensor([3])}
    none = {key: values[:0] for key, values in one.items()}
    first, second = postprocess(peer._predictions([one, none], [(16, 32), (8, 8)]), [(160, 320), (8, 8)])
    assert first.xyxy[0].tolist() == [80, 40, 240, 120]
    assert first.class_id[0] == 2
    assert first.confidence[0] == pytest.approx(0.75)
    assert max([*first.confidence[1:], *second.confidence]) < 1e-20


def test_sizes_of_anchors_are_shared_out_to_the_levels() -> None:
    usual = torchvision_peers.anchors(5, 5, 32, 512)
    assert [size for sizes in usual.sizes for size in sizes] == pytest.approx([32, 64, 128, 256, 512])
    assert usual.num_anchors_per_location() == [3] * 5
    (one_map,) = torchvision_peers.anchors(1, 5, 4, 64).sizes
    assert one_map == pytest.approx([4, 8, 16, 32, 64])
    assert torchvision_peers.anchors(3, 5, 4, 64).num_anchors_per_location() == [6] * 3


@each_peer
def test_anchors_are_smaller_in_smaller_images(name: str, small_model: ModelConfig) -> None:
    def smallest(short_side: int) -> float:
        network = torchvision_peers.build_torchvision_peer(name, small_model, short_side).network
        generator = network.rpn.anchor_generator if hasattr(network, "rpn") else network.anchor_generator
        return float(generator.sizes[0][0])

    assert smallest(800) == pytest.approx(32)
    assert smallest(100) == pytest.approx(4)


@each_peer
def test_all_maps_of_the_backbone_are_read(name: str, small_model: ModelConfig) -> None:
    peer = build(name, small_model.model_copy(update={"features": "c4_c5"})).train()
    losses(peer, images()).backward()
    lateral = peer.network.backbone.pyramid.inner_blocks
    assert len(lateral) == 2
    assert all(block[0].weight.grad.abs().sum() > 0 for block in lateral)

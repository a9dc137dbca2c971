"""Frozen batch norm inside convolutions: same maps, same gradients, same modules."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, fx, nn

from anchordetr.layers.backbone import Backbone, TimmBody
from anchordetr.layers.frozen import convolve, fold_frozen_norms
from anchordetr.types import ImageBatch

# plain norms; norms that hold their activation, convolutions that pad by size, a last stage that is not asked for;
# norms before convolutions
NETWORKS = [("resnet10t", "dc5", 14), ("tf_efficientnet_lite0", "c4", 33), ("densenet121", "c3", 7)]


def _images(batch: int = 2, height: int = 64, width: int = 96) -> ImageBatch:
    return ImageBatch(torch.randn(batch, 3, height, width), ((height, width),) * batch)


def _with_random_norms(body: nn.Module) -> nn.Module:
    for norm in body.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_()
    return body


def _learned(body: nn.Module, run: nn.Module, pixels: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
    """Return maps and the gradients of the body's parameters."""
    maps = run(pixels)
    loss = torch.stack([(level * torch.linspace(-1, 1, level.numel()).view_as(level)).sum() for level in maps]).sum()
    trained = [weight for weight in body.parameters() if weight.requires_grad]
    return maps, list(torch.autograd.grad(loss, trained, allow_unused=True))


def _folds(run: nn.Module) -> int:
    return sum(node.target is convolve for node in run.graph.nodes) if isinstance(run, fx.GraphModule) else 0


@pytest.mark.parametrize(("name", "features", "norms"), NETWORKS)
def test_maps_and_gradients_are_those_of_the_body(name: str, features: str, norms: int) -> None:
    body = _with_random_norms(TimmBody(name, features)).train().double()
    folded = fold_frozen_norms(body)
    assert _folds(folded) >= norms
    pixels = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    torch.testing.assert_close(_learned(body, folded, pixels), _learned(body, body, pixels))


def test_a_bias_before_the_norm_counts() -> None:
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4))
    _with_random_norms(body).eval()
    folded = fold_frozen_norms(body)
    assert _folds(folded) == 2
    pixels = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(folded(pixels), body(pixels))


def test_stages_that_nobody_asked_for_do_not_run() -> None:
    folded = fold_frozen_norms(TimmBody("tf_efficientnet_lite0", "c4").train())
    assert isinstance(folded, fx.GraphModule)
    assert not [node for node in folded.graph.nodes if "blocks.5" in str(node.target)]
    assert [node for node in folded.graph.nodes if "blocks.4" in str(node.target)]


class _RaisesInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.unread = nn.Conv2d(4, 4, 1)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        features = self.stem(pixels)
        features.relu_()
        self.unread(features)
        return [features + 1]


def test_a_step_in_place_that_gives_nothing_back_still_runs() -> None:
    body = _RaisesInPlace().eval()
    folded = fold_frozen_norms(body)
    assert _folds(folded) == 1
    pixels = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(folded(pixels), body(pixels))


class _Standardized(nn.Conv2d):
    def forward(self, pixels: Tensor) -> Tensor:
        weight = self.weight / self.weight.norm()
        return self._conv_forward(pixels, weight, self.bias)


class _ReadsTheConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.convolution(pixels)
        output: Tensor = self.norm(features) + features
        return output


class _LooksAtValues(_ReadsTheConvolution):
    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) if pixels.sum() > 0 else pixels


def test_what_cannot_be_folded_stays() -> None:
    for body in (_ReadsTheConvolution(), nn.Sequential(_Standardized(3, 8, 3), nn.BatchNorm2d(8))):
        assert _folds(fold_frozen_norms(body.eval())) == 0
    for body in (_LooksAtValues().eval(), nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()):
        assert fold_frozen_norms(body) is body


def test_a_backbone_folds_in_training_only() -> None:
    backbone = Backbone(_with_random_norms(TimmBody("resnet10t", "c4")))
    names, images = list(backbone.state_dict()), _images()
    backbone.eval()
    expected = backbone(images)[0].features
    steps = _norm_calls(backbone)
    backbone(images)
    assert len(steps) == 11
    torch.testing.assert_close(backbone.train()(images)[0].features, expected, rtol=1e-4, atol=1e-4)
    assert len(steps) == 11
    assert list(backbone.state_dict()) == names
    assert torch.equal(backbone.eval()(images)[0].features, expected)


def test_training_without_frozen_norms_runs_the_network_itself() -> None:
    backbone = Backbone(TimmBody("resnet10t", "c4", freeze_batch_norm=False)).train()
    steps = _norm_calls(backbone)
    backbone(_images())
    assert len(steps) == 11


def test_copies_learn_with_weights_of_their_own() -> None:
    backbone = Backbone(_with_random_norms(TimmBody("resnet10t", "c4"))).train()
    file = io.BytesIO()
    torch.save(backbone, file)
    file.seek(0)
    images, changed = _images(), next(weight for weight in backbone.parameters() if weight.requires_grad)
    for other in (copy.deepcopy(backbone), torch.load(file, weights_only=False)):
        expected = other(images)[0].features
        changed.data.mul_(2)
        assert torch.equal(other(images)[0].features, expected)
        assert not torch.equal(backbone(images)[0].features, expected)
        changed.data.div_(2)


def test_compiled_training_is_one_graph() -> None:
    backbone = Backbone(_with_random_norms(TimmBody("resnet10t", "c4"))).train()
    images = _images()
    compiled = torch.compile(backbone, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images)[0].features, backbone(images)[0].features, rtol=1e-4, atol=1e-4)


def _norm_calls(backbone: Backbone) -> list[str]:
    """Return a list that grows with every batch norm that runs."""
    calls: list[str] = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    return calls

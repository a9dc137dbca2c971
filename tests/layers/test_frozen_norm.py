"""Frozen batch norm inside convolutions: same maps, same gradients, same modules."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from anchordetr.layers.backbone import TimmBody
from anchordetr.layers.frozen_norm import FrozenConvolution, fold_frozen_norms

# plain norms; norms that hold their activation, convolutions that pad by size, a last stage that is not asked for;
# norms before convolutions
NETWORKS = [("resnet10t", "dc5", 14), ("tf_efficientnet_lite0", "c4", 33), ("densenet121", "c3", 19)]


def _with_random_norms(body: Any) -> Any:
    for norm in body.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_()
    return body


def _learned(network: nn.Module, run: nn.Module, pixels: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
    """Return maps and the gradients of the network's parameters."""
    maps = run(pixels)
    loss = torch.stack([(level * torch.linspace(-1, 1, level.numel()).view_as(level)).sum() for level in maps]).sum()
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    return maps, list(torch.autograd.grad(loss, trained, allow_unused=True))


def _folded(network: nn.Module, folds: int) -> fx.GraphModule:
    folded = fold_frozen_norms(network)
    assert folded is not None
    assert sum(isinstance(module, FrozenConvolution) for module in folded.modules()) == folds
    return folded


@pytest.mark.parametrize(("name", "features", "folds"), NETWORKS)
def test_maps_and_gradients_are_those_of_the_network(name: str, features: str, folds: int) -> None:
    network = _with_random_norms(TimmBody(name, features)).train().double().network
    folded = _folded(network, folds)
    pixels = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    torch.testing.assert_close(_learned(network, folded, pixels), _learned(network, network, pixels))


def test_a_network_leaves_memory_at_once() -> None:
    gc.disable()
    try:
        network = TimmBody("resnet10t", "c5").network
        weights = [weakref.ref(weight) for weight in network.parameters()]
        assert fold_frozen_norms(network) is not None
        del network
        assert not any(weight() is not None for weight in weights)
    finally:
        gc.enable()


def test_a_bias_before_the_norm_counts() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4))
    _with_random_norms(network).eval()
    pixels = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(_folded(network, 2)(pixels), network(pixels))


def test_a_norm_that_learns_again_is_itself() -> None:
    network = _with_random_norms(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))).eval()
    folded, plain = _folded(network, 1), copy.deepcopy(network).train()
    network[1].train()
    pixels = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(folded(pixels), plain(pixels))
    torch.testing.assert_close(network.state_dict(), plain.state_dict())


def test_the_last_stages_do_not_run() -> None:
    names = [name for name, _ in _folded(TimmBody("tf_efficientnet_lite0", "c4").train().network, 33).named_modules()]
    assert not any("blocks.5" in name for name in names)
    assert any("blocks.4" in name for name in names)


class _EndsInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.relu = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.norm(self.convolution(pixels))
        self.relu(features)
        return features


def test_a_last_step_in_place_is_kept() -> None:
    network, pixels = _EndsInPlace().eval(), torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(_folded(network, 1)(pixels), network(pixels))


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


class _LooksAtValues(nn.Sequential):
    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) if pixels.sum() > 0 else pixels


class _HoldsATensor(nn.Sequential):
    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.register_buffer("mean", torch.zeros(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels - self.mean)


def _hooked() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    network[1].register_forward_hook(lambda *_: None)
    return network


@pytest.mark.parametrize(
    "network",
    [
        _ReadsTheConvolution(),
        nn.Sequential(_Standardized(3, 8, 3), nn.BatchNorm2d(8)),
        _LooksAtValues(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        _HoldsATensor(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        _hooked(),
        TimmBody("xception41", "c3").network,
    ],
    ids=["read twice", "other weights", "values", "tensor", "hook", "timm's hooks"],
)
def test_what_cannot_be_folded_stays(network: nn.Module) -> None:
    assert fold_frozen_norms(network.eval()) is None


def test_norms_that_learn_are_left() -> None:
    assert fold_frozen_norms(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()) is None


def test_a_body_folds_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    body = _with_random_norms(TimmBody("resnet10t", "c4"))
    names, pixels, steps = list(body.state_dict()), torch.randn(2, 3, 64, 96), _norm_steps(monkeypatch)
    (expected,) = body.eval()(pixels)
    assert len(steps) == 11
    torch.testing.assert_close(body.train()(pixels), [expected], rtol=1e-4, atol=1e-4)
    assert len(steps) == 11
    assert list(body.state_dict()) == names
    assert torch.equal(body.eval()(pixels)[0], expected)
    assert len(steps) == 22


def test_hooks_are_called_in_training() -> None:
    body, seen = TimmBody("resnet10t", "c4"), []
    body.network.layer2.register_forward_hook(lambda *_: seen.append("layer2"))
    body.train()(torch.randn(1, 3, 64, 64))
    assert seen == ["layer2"]


def test_live_norms_are_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = _norm_steps(monkeypatch)
    TimmBody("resnet10t", "c4", freeze_batch_norm=False).train()(torch.randn(2, 3, 64, 64))
    assert len(steps) == 11


def test_copies_learn_with_weights_of_their_own() -> None:
    body = _with_random_norms(TimmBody("resnet10t", "c4")).train()
    file = io.BytesIO()
    torch.save(body, file)
    file.seek(0)
    pixels, changed = torch.randn(1, 3, 64, 64), next(weight for weight in body.parameters() if weight.requires_grad)
    for other in (copy.deepcopy(body).train(), torch.load(file, weights_only=False).train()):
        (expected,) = other(pixels)
        changed.data.mul_(2)
        assert torch.equal(other(pixels)[0], expected)
        assert not torch.equal(body(pixels)[0], expected)
        changed.data.div_(2)


def test_weights_that_move_are_seen() -> None:
    body = _with_random_norms(TimmBody("resnet10t", "c4")).train()
    body.double()
    assert body(torch.randn(1, 3, 64, 64, dtype=torch.float64))[0].dtype == torch.float64


def test_autocast_works_in_bfloat16() -> None:
    body = _with_random_norms(TimmBody("resnet10t", "c4")).train()
    with torch.autocast("cpu", torch.bfloat16):
        (features,) = body(torch.randn(1, 3, 64, 64))
    assert features.dtype == torch.bfloat16
    features.float().sum().backward()
    assert all(weight.grad is None or weight.grad.dtype == torch.float32 for weight in body.parameters())


def test_compiled_training_is_one_graph() -> None:
    body, pixels = TimmBody("resnet10t", "c4").train(), torch.randn(2, 3, 64, 64)
    compiled = torch.compile(body, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pixels), body(pixels), rtol=1e-4, atol=1e-4)


def _norm_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every batch norm that runs."""
    steps: list[str] = []
    normalise = F.batch_norm

    def counted(*arguments: Any, **options: Any) -> Tensor:
        steps.append("batch_norm")
        return normalise(*arguments, **options)

    monkeypatch.setattr(F, "batch_norm", counted)
    return steps

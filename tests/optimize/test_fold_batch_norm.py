"""Folding and fusing a backbone changes no map."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from anchordetr.layers.backbone import TimmBody
from anchordetr.optimize.fold_batch_norm import FoldedBody, fold
from anchordetr.optimize.onednn_layers import FusedConvolution


def with_odd_norms(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.weight, mean=1.0, std=0.1)
            nn.init.normal_(module.bias, std=0.1)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("resnet26", "dc5"),
        ("resnet26", "c3_c4_dc5"),
        ("hgnetv2_b0", "c3"),
        ("test_convnext.r160_in1k", "c4"),
        ("tf_efficientnet_lite0", "c4"),
    ],
)
def test_a_body_gives_the_same_maps(name: str, features: str) -> None:
    body = with_odd_norms(TimmBody(name, features))
    folded = FoldedBody(body, torch.float32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    pixels = torch.randn(2, 3, 64, 96)
    kept = pixels.clone()
    with torch.inference_mode():
        for found, expected in zip(folded(pixels), body(pixels), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert torch.equal(pixels, kept)


def test_every_convolution_of_a_resnet_is_fused() -> None:
    folded = FoldedBody(with_odd_norms(TimmBody("resnet26", "c5")), torch.float32)
    modules = list(folded.modules())
    assert sum(isinstance(module, FusedConvolution) for module in modules) == 1 + 8 * 3 + 4
    assert not any(isinstance(module, (nn.Conv2d, nn.ReLU, nn.MaxPool2d)) for module in modules)


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2, 2), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d((3, 1), 1, (1, 0))], ids=str
)
def test_other_kinds_of_pooling_stay(pool: nn.MaxPool2d) -> None:
    folded = fold(nn.Sequential(pool).eval())
    pixels = torch.randn(1, 2, 9, 9)
    assert any(isinstance(module, nn.MaxPool2d) for module in folded.modules())
    assert torch.equal(folded(pixels), pool(pixels))


def test_the_last_stages_are_left_out() -> None:
    names = [name for name, _ in FoldedBody(TimmBody("tf_efficientnet_lite0", "c4"), torch.float32).named_modules()]
    assert not any("blocks.5" in name for name in names)
    assert any("blocks.4" in name for name in names)


def test_a_network_with_hooks_gives_its_maps() -> None:
    body = with_odd_norms(TimmBody("xception41", "c3"))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(FoldedBody(body, torch.float32)(pixels), body(pixels))


def test_maps_have_the_requested_dtype() -> None:
    folded = FoldedBody(TimmBody("resnet10t", "c5"), torch.bfloat16)
    assert folded(torch.randn(1, 3, 64, 64))[0].dtype == torch.bfloat16


class Block(nn.Module):
    """A convolution, a sum with something, ReLU."""

    def __init__(self, forward: Callable[[Block, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def shortcut_read_later(block: Block, x: Tensor) -> Tensor:
    kept = block.first(x).relu()
    return (block.second(kept) + kept).relu() + kept


def convolution_read_after_the_sum(block: Block, x: Tensor) -> Tensor:
    kept = block.first(x)
    return torch.relu(block.second(x) + kept) + kept


def shortcut_is_the_input(block: Block, x: Tensor) -> Tensor:
    return torch.relu(block.second(x) + x)


def convolution_read_twice(block: Block, x: Tensor) -> Tensor:
    features = block.first(x)
    return block.norm(features) + torch.relu(features)


def convolution_called_twice(block: Block, x: Tensor) -> Tensor:
    return torch.relu(block.first(torch.relu(block.norm(block.first(x)))))


def shortcut_first(block: Block, x: Tensor) -> Tensor:
    kept = torch.relu(block.first(x))
    return torch.relu(kept + block.second(kept))


@pytest.mark.parametrize(
    "forward",
    [
        shortcut_read_later,
        convolution_read_after_the_sum,
        shortcut_is_the_input,
        convolution_read_twice,
        convolution_called_twice,
        shortcut_first,
    ],
)
def test_what_is_read_elsewhere_is_left_alone(forward: Callable[[Block, Tensor], Tensor]) -> None:
    block = with_odd_norms(Block(forward))
    x = torch.randn(1, 3, 8, 8)
    kept, expected = x.clone(), block(x)
    with torch.inference_mode():
        torch.testing.assert_close(fold(block)(x), expected)
    assert torch.equal(x, kept)


def test_a_network_that_cannot_be_traced_keeps_its_operations() -> None:
    def depends_on_values(block: Block, x: Tensor) -> Tensor:
        return block.norm(block.first(x)) if x.sum() > 0 else x

    block = Block(depends_on_values)
    assert fold(block) is block


def test_branches_that_timm_can_merge_become_one_convolution() -> None:
    body = TimmBody("repghostnet_050", "c4", freeze_batch_norm=False).eval()
    folded = FoldedBody(body, torch.float32)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(folded(pixels), body(pixels), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())

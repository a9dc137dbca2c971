"""Several maps fused into one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anchordetr.config import Config, ModelConfig
from anchordetr.errors import UsageError
from anchordetr.layers.backbone import PaddedMap
from anchordetr.layers.feature_fusion import FeatureFusion
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import SinePositionEncoder
from anchordetr.models.builders import build_model
from anchordetr.types import ImageBatch


def fusion_to(stride: int, embed_dim: int, num_groups: int) -> FeatureFusion:
    encoder = SinePositionEncoder(embed_dim)
    return FeatureFusion(
        channels=[4, 4, 4], strides=[8, 16, 32], stride=stride, key_encoder=encoder, num_groups=num_groups
    )


def summing(stride: int) -> FeatureFusion:
    """A fusion that only sums: laterals, smoothing and norm pass their input on."""
    fusion = FeatureFusion(
        channels=[4, 4, 4], strides=[8, 16, 32], stride=stride, key_encoder=SinePositionEncoder(4), num_groups=4
    )
    with torch.no_grad():
        for convolution in (*fusion.laterals, fusion.pointwise):
            convolution.weight.copy_(torch.eye(4)[:, :, None, None])
        fusion.depthwise.weight.zero_()
        fusion.depthwise.weight[:, :, 1, 1] = 1.0
        fusion.pointwise.bias.zero_()
    fusion.norm = Passing()
    return fusion


class Passing(torch.nn.Module):
    def forward(self, features: Tensor, *masks: Tensor | None) -> Tensor:
        return features


def levels(height: int, width: int, drop_rest: bool = False) -> list[PaddedMap]:
    """Maps of a network that rounds sizes up, or that drops the rest."""
    up = 0 if drop_rest else 1
    sizes = [((height - up) // stride + up, (width - up) // stride + up) for stride in (8, 16, 32)]
    return [PaddedMap(torch.randn(1, 4, *size), (size,)) for size in sizes]


def location(level: PaddedMap, row: int, column: int) -> Tensor:
    return level.features[0, :, row, column]


def fuse(fusion: FeatureFusion, maps: list[PaddedMap]) -> Memory:
    with torch.no_grad():
        fused: Memory = fusion(maps)
    return fused


def test_each_cell_sums_what_stands_at_its_place() -> None:
    c3, c4, c5 = maps = levels(72, 104)  # 9x13, 5x7 and 3x4 locations
    fused = fuse(summing(16), maps)
    assert fused.values.shape == (1, 5, 7, 4)
    assert (fused.levels, fused.valid_x, fused.valid_y) == (1, None, None)
    inner = c3.features[0, :, 2:4, 4:6].mean(dim=(1, 2)) + location(c4, 1, 2) + location(c5, 0, 1)
    torch.testing.assert_close(fused.values[0, 1, 2], inner)
    corner = location(c3, 8, 12) + location(c4, 4, 6) + location(c5, 2, 3)
    torch.testing.assert_close(fused.values[0, 4, 6], corner)
    finest = fuse(summing(8), maps).values
    torch.testing.assert_close(finest[0, 8, 5], location(c3, 8, 5) + location(c4, 4, 2) + location(c5, 2, 1))
    coarsest = fuse(summing(32), maps).values
    last = c3.features[0, :, 8:, 12:].mean(dim=(1, 2)) + c4.features[0, :, 4:, 6:].mean(dim=(1, 2)) + location(c5, 2, 3)
    torch.testing.assert_close(coarsest[0, 2, 3], last)


@pytest.mark.parametrize("drop_rest", [False, True], ids=["rounds_up", "drops_the_rest"])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_what_stands_in_the_padding_changes_nothing(stride: int, drop_rest: bool) -> None:
    fusion = FeatureFusion(
        channels=[4, 4, 4], strides=[8, 16, 32], stride=stride, key_encoder=SinePositionEncoder(8), num_groups=2
    )
    small, large = levels(72, 40, drop_rest), levels(96, 200, drop_rest)
    alone = fuse(fusion, small)
    padded = []
    for one, other in zip(small, large, strict=True):
        height, width = one.sizes[0]
        features = torch.full((2, *other.features.shape[1:]), 1e3)
        features[0, :, :height, :width], features[1] = one.features[0], other.features[0]
        padded.append(PaddedMap(features, (*one.sizes, *other.sizes)))
    together = fuse(fusion, padded)
    height, width = alone.values.shape[1:3]
    assert together.valid_x is not None
    assert together.valid_x.sum(dim=1).tolist() == [width, together.values.shape[2]]
    torch.testing.assert_close(together.values[0, :height, :width], alone.values[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.values[1], fuse(fusion, large).values[0], atol=1e-5, rtol=0)


def test_every_level_learns() -> None:
    fusion = FeatureFusion(
        channels=[4, 4, 4], strides=[8, 16, 32], stride=16, key_encoder=SinePositionEncoder(8), num_groups=2
    )
    fusion(levels(64, 64)).values.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in fusion.parameters())


def test_the_encoder_sees_one_map(small_model: ModelConfig) -> None:
    changes = {"features": "c3_c4_c5", "fusion_level": "c4", "backbone": "resnet10t", "encoder_layers": 2}
    model = build_model(small_model.model_copy(update=changes))
    assert len(model.encoder.layers) == 2
    assert len(model.encoder.level_layers) == 0
    images = ImageBatch.from_list([torch.randn(3, 64, 96)])
    assert model.projection(model.backbone(images)).values.shape == (1, 4, 6, 32)


def test_levels_that_do_not_fit_are_explained(small_model: ModelConfig) -> None:
    with pytest.raises(UsageError, match=r"maps of three sizes; sum them with fusion_level=c4"):
        Config().updated({"model.features": "c3_c4_c5"})
    with pytest.raises(UsageError, match=r"model\.fusion_level=c3 is not a level of the backbone; it has c4\."):
        build_model(small_model.model_copy(update={"fusion_level": "c3"}))

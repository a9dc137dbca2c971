"""The table of feature levels says what a backbone gives."""

from __future__ import annotations

from typing import get_args

import pytest

from anchordetr.feature_levels import STRIDES, FeatureSet, FusionLevel, is_dilated, levels_of, strides_of
from anchordetr.layers.backbone import TimmBody


@pytest.mark.parametrize("features", get_args(FeatureSet))
def test_a_backbone_has_the_strides_of_the_table(features: str) -> None:
    assert TimmBody("resnet10t", features).strides == strides_of(features)


def test_sets_are_named_after_their_levels() -> None:
    assert levels_of("c3_c4_dc5") == ("c3", "c4", "dc5")
    assert strides_of("c3_c4_dc5") == (8, 16, 16)
    assert [features for features in get_args(FeatureSet) if is_dilated(features)] == ["dc5", "c3_c4_dc5"]
    assert {level for features in get_args(FeatureSet) for level in levels_of(features)} == set(STRIDES)
    assert set(get_args(FusionLevel)) == STRIDES.keys() - {"dc5"}

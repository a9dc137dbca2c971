"""Backbone maps become a memory."""

from __future__ import annotations

import torch

from anchordetr.layers.backbone import PaddedMap
from anchordetr.layers.position import SineMLPPositionEncoder
from anchordetr.layers.projection import InputProjection


def test_query_points_have_an_encoder_of_their_own_if_there_is_one() -> None:
    keys, queries = SineMLPPositionEncoder(32), SineMLPPositionEncoder(32)
    maps, points = [PaddedMap(torch.randn(1, 8, 3, 5), ((3, 5),))], torch.rand(1, 4, 2)
    for query_encoder in (None, queries):
        projection = InputProjection(channels=[8], strides=[16], key_encoder=keys, query_encoder=query_encoder)
        memory = projection(maps)
        torch.testing.assert_close(memory.encode(points).joint, (query_encoder or keys).encode_2d(points))
        torch.testing.assert_close(memory.positions.joint, keys.encode_2d(memory.positions.points))

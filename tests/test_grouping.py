"""Grouping by key."""

from __future__ import annotations

import torch

from anchordetr.grouping import group_by


def test_indices_are_grouped_in_the_order_of_first_occurrence() -> None:
    groups = group_by([(2, 3), (1, 3), (2, 3), (2, 4)])
    assert list(groups.items()) == [((2, 3), [0, 2]), ((1, 3), [1]), ((2, 4), [3])]


def test_images_are_grouped_by_shape() -> None:
    images = [torch.zeros(3, 4, 5), torch.zeros(3, 5, 4), torch.zeros(3, 4, 5)]
    assert list(group_by(image.shape for image in images).values()) == [[0, 2], [1]]


def test_no_items_have_no_groups() -> None:
    assert group_by([]) == {}

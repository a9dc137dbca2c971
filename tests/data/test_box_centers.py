"""Centres of boxes and their k-means clusters."""

from __future__ import annotations

import numpy as np

from anchordetr.data.box_centers import box_centres, representatives
from anchordetr.data.dataset import AnnotationTable, ImageRecord


def record(width: int, height: int, *boxes: tuple[float, float, float, float], crowd: bool = False) -> ImageRecord:
    count = len(boxes)
    return ImageRecord(
        image_id=1,
        file_name="a.jpg",
        height=height,
        width=width,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.zeros(count, dtype=np.int64),
        areas=np.ones(count, dtype=np.float32),
        crowd=np.full(count, crowd),
    )


def test_centres_are_fractions_of_their_own_image() -> None:
    records = [record(200, 100, (10, 20, 20, 40), (100, 0, 100, 100)), record(50, 50), record(40, 80, (0, 0, 8, 8))]
    records.append(record(10, 10, (0, 0, 10, 10), crowd=True))
    centres = box_centres(AnnotationTable.of(records))
    np.testing.assert_allclose(centres, [[0.1, 0.4], [0.75, 0.5], [0.1, 0.05]])


def test_flips_mirror_the_centres() -> None:
    table = AnnotationTable.of([record(100, 100, (0, 0, 20, 40))])
    np.testing.assert_allclose(box_centres(table, ["horizontal"]), [[0.1, 0.2], [0.9, 0.2]])
    both = box_centres(table, ["horizontal", "vertical"])
    np.testing.assert_allclose(both, [[0.1, 0.2], [0.9, 0.2], [0.1, 0.8], [0.9, 0.8]])


def test_cluster_centres_are_closer_than_random_points() -> None:
    rng = np.random.default_rng(0)
    centres = np.concatenate([rng.normal(0.3, 0.05, (900, 2)), rng.normal(0.8, 0.02, (100, 2))]).clip(0, 1)
    points = representatives(centres, 20, seed=0)
    assert points.shape == (20, 2)

    def distance(candidates: np.ndarray) -> float:
        return float(np.linalg.norm(centres[:, None] - candidates, axis=-1).min(axis=1).mean())

    assert distance(points) < 0.8 * distance(rng.choice(centres, 20, replace=False))
    assert 1 <= (points > 0.6).all(axis=1).sum() < 10
    np.testing.assert_array_equal(points, representatives(centres, 20, seed=0))
    assert not np.array_equal(points, representatives(centres, 20, seed=1))


def test_a_large_number_of_centres_is_sampled() -> None:
    points = representatives(np.random.default_rng(0).random((60_000, 2)), 4, seed=0)
    assert np.linalg.norm(points[:, None] - points, axis=-1)[~np.eye(4, dtype=bool)].min() > 0.3


def test_fewer_distinct_centres_than_points_are_all_returned() -> None:
    centres = np.array([[0.1, 0.2], [0.7, 0.9], [0.1, 0.2]])
    points = representatives(centres, 6, seed=3)
    assert points.shape == (6, 2)
    assert {(0.1, 0.2), (0.7, 0.9)} <= {tuple(point) for point in points}
    assert (points >= 0).all()
    assert (points <= 1).all()
    assert len(np.unique(points, axis=0)) == 6
    assert representatives(np.zeros((0, 2)), 3, seed=0).shape == (3, 2)


def test_a_cluster_that_becomes_empty_keeps_its_centre() -> None:
    distinct = np.array([[0, 4], [1, 8], [2, 7], [6, 2], [7, 5], [8, 5], [11, 0], [11, 1]]) / 12
    centres = np.repeat(distinct, [3, 11, 14, 1, 20, 28, 13, 14], axis=0)
    for seed in range(200):
        points = representatives(centres, 5, seed)
        assert points.shape == (5, 2)
        assert ((points >= 0) & (points <= 1)).all()


def test_cluster_centres_are_means_of_their_members() -> None:
    centres = np.random.default_rng(1).random((200, 2))
    points = representatives(centres, 3, seed=0)
    nearest = np.linalg.norm(centres[:, None] - points, axis=-1).argmin(axis=1)
    means = np.stack([centres[nearest == cluster].mean(axis=0) for cluster in range(3)])
    np.testing.assert_allclose(points, means, atol=0.02)

"""Denoising queries stand where they should, know their objects, and see none but those of their group."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anchordetr.layers.decoder import DecoderLayer
from anchordetr.layers.denoising import DenoisingQueries
from anchordetr.layers.feed_forward import FeedForward
from anchordetr.layers.heads import Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.position import LearnedPositions, MapPositions, SinePositionEncoder
from anchordetr.layers.queries import Queries
from anchordetr.types import Target

ENCODER = SinePositionEncoder(32)
CENTER = torch.full((1, 1), 0.5)
MEMORY = Memory(torch.zeros(3, 1, 1, 32), MapPositions(CENTER, CENTER, ENCODER), ENCODER)
HEADS = Heads(class_head=nn.Identity(), box_head=nn.Identity())
TARGETS = [
    Target(torch.tensor([[0.3, 0.4, 0.2, 0.1], [0.6, 0.5, 0.3, 0.4], [0.5, 0.7, 0.1, 0.2]]), torch.tensor([0, 4, 2])),
    Target(torch.tensor([[0.5, 0.5, 0.4, 0.2]]), torch.tensor([3])),
    Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
]


def queries_of(
    targets: list[Target] = TARGETS, groups: int = 2, **noise: float | bool
) -> tuple[DenoisingQueries, Queries]:
    limit = {"most_queries": 10_000} if groups > 8 else {}
    denoising = DenoisingQueries(num_classes=5, embed_dim=32, groups=groups, **limit, **noise)
    return denoising, denoising(MEMORY, HEADS, targets)


@pytest.mark.parametrize("negatives", [False, True])
def test_without_noise_each_query_is_its_object(negatives: bool) -> None:
    denoising, queries = queries_of(point_noise=0.0, label_noise=0.0, negatives=negatives)
    assert queries.target_indices is not None
    assert queries.valid is not None
    slots = 8 if negatives else 4  # three objects and a free place, once or twice
    assert queries.target_indices.shape == queries.valid.shape == (3, 2, slots)
    for image, target in enumerate(TARGETS):
        count = len(target.labels)
        for group in range(2):
            assert queries.target_indices[image, group, :count].tolist() == list(range(count))
            assert (queries.target_indices[image, group, count:] == -1).all()
            assert queries.valid[image, group].sum() == count * (1 + negatives)
            first = group * slots
            torch.testing.assert_close(queries.references[image, first : first + count], target.boxes[:, :2])
            expected = denoising.labels.weight[target.labels]
            torch.testing.assert_close(queries.content[image, first : first + count], expected)
    torch.testing.assert_close(queries.positions.x, ENCODER.encode_1d(queries.references[..., 0]))
    torch.testing.assert_close(queries.positions.joint, ENCODER.encode_2d(queries.references))


def test_points_move_by_their_share_of_the_box_and_negatives_farther() -> None:
    box = torch.tensor([[0.5, 0.5, 0.4, 0.2]])
    _, queries = queries_of([Target(box, torch.tensor([1]))], groups=500, point_noise=0.4, negatives=True)
    moved = ((queries.references - box[:, :2]).abs() / (box[:, 2:] / 2)).view(500, 2, 2) / 0.4
    positive, negative = moved[:, 0], moved[:, 1]
    assert positive.max() <= 1.0 + 1e-5
    assert positive.min() < 0.05
    assert negative.min() >= 1.0 - 1e-5
    assert 1.95 < negative.max() <= 2.0 + 1e-5
    offset = queries.references - box[:, :2]
    assert ((offset > 0).float().mean(dim=(0, 1)) - 0.5).abs().max() < 0.1


def test_points_stay_in_the_image() -> None:
    corner = Target(torch.tensor([[0.02, 0.98, 0.9, 0.9]]), torch.tensor([1]))
    _, queries = queries_of([corner], groups=100, negatives=True)
    assert queries.references.min() == 0.0
    assert queries.references.max() == 1.0


def test_a_flipped_label_is_any_class() -> None:
    denoising, queries = queries_of([Target(torch.rand(1, 4), torch.tensor([1]))], groups=200, label_noise=1.0)
    is_class = (queries.content[0, :, None] == denoising.labels.weight).all(dim=-1)
    assert (is_class.sum(dim=0) > 10).all()


def test_a_share_of_the_labels_is_another() -> None:
    target = Target(torch.rand(1, 4), torch.tensor([1]))
    denoising, queries = queries_of([target], groups=1000, label_noise=0.5)
    is_own = (queries.content[0] == denoising.labels.weight[1]).all(dim=-1)
    assert is_own.float().mean() == pytest.approx(0.5 + 0.5 / 5, abs=0.05)


def test_noise_comes_from_torchs_generator() -> None:
    denoising = DenoisingQueries(num_classes=5, embed_dim=32, groups=3, negatives=True)
    state = torch.get_rng_state()
    first = denoising(MEMORY, HEADS, TARGETS)
    assert not torch.equal(denoising(MEMORY, HEADS, TARGETS).references, first.references)
    torch.set_rng_state(state)
    again = denoising(MEMORY, HEADS, TARGETS)
    assert torch.equal(again.references, first.references)
    assert torch.equal(again.content, first.content)


class Ignore(nn.Module):
    """A map attention that reads nothing."""

    def forward(self, query: Queries, memory: Memory) -> Tensor:
        return torch.zeros_like(query.values)


def test_queries_feel_their_own_group_alone_and_no_padding() -> None:
    layer = DecoderLayer(
        self_attention=nn.MultiheadAttention(32, 4, batch_first=True),
        cross_attention=Ignore(),
        feed_forward=FeedForward(32, 32),
        self_norm=nn.LayerNorm(32),
        cross_norm=nn.LayerNorm(32),
    )
    content = torch.randn(2, 6, 32, requires_grad=True)  # two groups of three
    joint, points = torch.randn(2, 6, 32), torch.rand(2, 6, 2)
    valid = torch.tensor([[[True, True, False]] * 2, [[False] * 3] * 2])
    queries = Queries(content, LearnedPositions(joint, points), points, num_anchors=6, valid=valid)
    output = layer(queries, MEMORY).content
    assert output.isfinite().all()
    for query in range(2):
        (gradient,) = torch.autograd.grad(output[0, query].square().sum(), content, retain_graph=True)
        felt = gradient.abs().sum(dim=-1) > 0
        assert felt[0].tolist() == [True, True, False, False, False, False]
        assert not felt[1].any()
    (gradient,) = torch.autograd.grad(output[1, 0].square().sum(), content, retain_graph=True)
    assert (gradient[1].abs().sum(dim=-1) > 0).tolist() == [True] * 3 + [False] * 3  # no attention is empty
    plain = Queries(content[:1, :2], LearnedPositions(joint[:1, :2], points[:1, :2]), points[:1, :2], num_anchors=2)
    torch.testing.assert_close(output[:1, :2], layer(plain, MEMORY).content)


def test_sizes_change_by_their_noise_and_those_of_negatives_by_more() -> None:
    box = torch.tensor([[0.5, 0.5, 0.2, 0.1]])
    noise = {"point_noise": 0.0, "size_noise": 0.4, "negatives": True}
    _, queries = queries_of([Target(box, torch.tensor([1]))], groups=500, **noise)
    change = ((queries.references[..., 2:] / box[:, 2:]).view(500, 2, 2) - 1) / 0.4
    torch.testing.assert_close(queries.references[..., :2], box[:, :2].expand(1, 1000, -1))
    positive, negative = change[:, 0], change[:, 1]
    assert positive.abs().max() <= 1.0001
    assert negative.abs().min() >= 0.9999
    assert positive.min() < -0.9
    assert positive.max() > 0.9
    assert (queries.references[..., 2:] > 0).all()


def test_images_with_many_objects_get_fewer_groups() -> None:
    def groups(objects: int) -> int:
        target = Target(torch.rand(objects, 4), torch.zeros(objects, dtype=torch.int64))
        _, queries = queries_of([target], groups=8, negatives=True)
        assert queries.target_indices is not None
        return queries.target_indices.shape[1]

    assert [groups(count) for count in (0, 3, 32, 33, 100, 300)] == [8, 8, 8, 4, 2, 1]

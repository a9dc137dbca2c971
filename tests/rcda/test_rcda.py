"""The operator against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anchordetr.rcda import rcda
from anchordetr.rcda.functional import BACKENDS

SIZES = {
    "one_cell": (1, 1, 1, 1, 1, 4),
    "wide": (2, 2, 5, 3, 9, 4),
    "tall": (2, 3, 7, 11, 2, 8),
}


def arguments(batch: int, heads: int, queries: int, height: int, width: int, depth: int) -> tuple[Tensor, ...]:
    shapes = (
        (batch, heads, queries, depth),
        (batch, heads, queries, depth),
        (batch, heads, width, depth),
        (batch, heads, height, depth),
        (batch, heads, height, width, depth + 1),
    )
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


def dense(q_x: Tensor, q_y: Tensor, k_x: Tensor, k_y: Tensor, value: Tensor, mask_x: Tensor, mask_y: Tensor) -> Tensor:
    """Dense attention over the H·W cells with logits q_x·k_x[w] + q_y·k_y[h]."""
    height, width = value.shape[2:4]
    query = torch.cat((q_x, q_y), dim=-1)
    key = torch.cat(
        (
            k_x[:, :, None].expand(-1, -1, height, -1, -1),
            k_y[:, :, :, None].expand(-1, -1, -1, width, -1),
        ),
        dim=-1,
    )
    valid = (mask_y[:, :, None] & mask_x[:, None, :]).flatten(1)[:, None, None]
    return F.scaled_dot_product_attention(
        query, key.flatten(2, 3), value.flatten(2, 3), attn_mask=valid, scale=q_x.shape[-1] ** -0.5
    )


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_dense_attention_with_summed_logits(backend: str, size: tuple[int, ...], masked: bool) -> None:
    tensors = arguments(*size)
    batch, _, _, height, width, _ = size
    mask_x = torch.ones(batch, width, dtype=torch.bool)
    mask_y = torch.ones(batch, height, dtype=torch.bool)
    if masked:
        mask_x[0, 1:] = False
        mask_y[-1, -1] = height == 1
    expected = dense(*tensors, mask_x, mask_y)
    masks = (mask_x, mask_y) if masked else (None, None)
    actual = rcda(*tensors, *masks, backend=backend)
    torch.testing.assert_close(actual, expected)
    cotangent = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(actual, tensors, cotangent),
        torch.autograd.grad(expected, tensors, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_scale_multiplies_the_logits() -> None:
    q_x, q_y, k_x, k_y, value = arguments(*SIZES["wide"])
    torch.testing.assert_close(
        rcda(q_x, q_y, k_x, k_y, value, scale=0.2), rcda(0.4 * q_x, 0.4 * q_y, k_x, k_y, value, scale=0.5)
    )


def test_dropout_drops_weights_and_keeps_the_mean() -> None:
    q_x, q_y, k_x, k_y, _ = arguments(1, 1, 4000, 6, 6, 4)
    ones = torch.ones(1, 1, 6, 6, 1, dtype=torch.float64)
    answer = rcda(q_x, q_y, k_x, k_y, ones, dropout_p=0.5)
    assert answer.std() > 0.1
    assert answer.mean().item() == pytest.approx(1.0, abs=0.05)


def test_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match=r"'referense'.*Did you mean 'reference'"):
        rcda(*arguments(*SIZES["wide"]), backend="referense")


@pytest.mark.parametrize("name", ["q_y", "k_x", "k_y", "mask_x", "mask_y"])
def test_a_wrong_shape_is_named(name: str) -> None:
    q_x, q_y, k_x, k_y, value = arguments(*SIZES["wide"])
    given = {"q_x": q_x, "q_y": q_y, "k_x": k_x, "k_y": k_y, "value": value}
    wrong = given.get(name, torch.ones(2, 30, dtype=torch.bool))[:, :1]
    if name == "q_y":
        wrong = q_y[:, :, :-1]
    with pytest.raises(ValueError, match=f"expects {name} of shape"):
        rcda(**{**given, name: wrong})

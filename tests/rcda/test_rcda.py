"""The operator against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anchordetr.profiling.peak_memory import peak_bytes
from anchordetr.rcda import explain, functional, rcda

BACKENDS = [name for name in functional.BACKENDS if name != "triton"]  # see test_triton.py

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
    """Dense attention over the H·W locations with logits q_x·k_x[w] + q_y·k_y[h]."""
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


def masks_of(size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The first image's last columns and the last image's last row are padding."""
    batch, _, _, height, width, _ = size
    mask_x = torch.ones(batch, width, dtype=torch.bool)
    mask_y = torch.ones(batch, height, dtype=torch.bool)
    mask_x[0, 1:] = False
    mask_y[-1, -1] = height == 1
    return mask_x, mask_y


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_dense_attention_with_summed_logits(backend: str, size: tuple[int, ...], masked: bool) -> None:
    tensors = arguments(*size)
    masks = masks_of(size)
    everywhere = tuple(torch.ones_like(mask) for mask in masks)
    expected = dense(*tensors, *(masks if masked else everywhere))
    actual = rcda(*tensors, *(masks if masked else (None, None)), backend=backend)
    torch.testing.assert_close(actual, expected)
    cotangent = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(actual, tensors, cotangent),
        torch.autograd.grad(expected, tensors, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_agree_with_finite_differences(backend: str, size: tuple[int, ...], masked: bool) -> None:
    masks = masks_of(size) if masked else (None, None)
    torch.autograd.gradcheck(lambda *tensors: rcda(*tensors, *masks, backend=backend), arguments(*size))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_image_with_nothing_to_attend_to_gets_zeros(backend: str) -> None:
    size = SIZES["wide"]
    tensors = arguments(*size)
    mask_x, mask_y = torch.ones(2, 9, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    mask_x[0] = False
    answer = rcda(*tensors, mask_x, mask_y, backend=backend)
    assert (answer[0] == 0).all()
    assert (answer[1] != 0).any()
    for gradient in torch.autograd.grad(answer.sum(), tensors):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_is_as_accurate_as_its_dtype(backend: str, dtype: torch.dtype) -> None:
    """Compared with float64 on the same rounded values; errors in units of the dtype's rounding."""
    tensors = tuple(tensor.to(dtype).detach().requires_grad_() for tensor in arguments(1, 2, 40, 12, 15, 16))
    exact = tuple(tensor.double().detach().requires_grad_() for tensor in tensors)
    answer, expected = rcda(*tensors, backend=backend), rcda(*exact, backend="reference")
    assert answer.dtype == dtype
    cotangent = torch.randn_like(expected)
    gradients = torch.autograd.grad(answer, tensors, cotangent.to(dtype))
    exact_gradients = torch.autograd.grad(expected, exact, cotangent.to(dtype).double())
    pairs = zip((answer, *gradients), (expected, *exact_gradients), strict=True)
    for ours, theirs in pairs:
        error = (ours.double() - theirs).abs().max() / theirs.abs().max()
        assert error < 6 * torch.finfo(dtype).eps


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_arguments_are_read_in_place(backend: str) -> None:
    """Queries and values as projections leave them, heads beside channels, inside memory that holds NaN."""
    tensors = arguments(*SIZES["wide"])
    expected = rcda(*tensors, backend=backend)
    strided = []
    for tensor in tensors:
        moved = tensor.detach().movedim(1, -2)
        holder = torch.full((*moved.shape[:-1], moved.shape[-1] + 3), float("nan"), dtype=moved.dtype)
        holder[..., 1:-2] = moved
        strided.append(holder[..., 1:-2].movedim(-2, 1).requires_grad_())
    actual = rcda(*strided, backend=backend)
    torch.testing.assert_close(actual, expected)
    for ours, theirs in zip(
        torch.autograd.grad(actual.sum(), strided), torch.autograd.grad(expected.sum(), tensors), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_tiled_takes_several_tiles_and_holds_no_z() -> None:
    heads, queries, height, width, depth = 8, 1500, 40, 30, 32
    shapes = [(queries, depth), (queries, depth), (width, depth), (height, depth), (height, width, depth)]
    tensors = [torch.randn(1, heads, *shape) for shape in shapes]
    torch.testing.assert_close(rcda(*tensors, backend="tiled"), rcda(*tensors, backend="reference"))
    z_bytes = heads * queries * min(height, width) * depth * 4
    peak = peak_bytes(lambda: rcda(*tensors, backend="tiled"), torch.device("cpu"))
    assert peak < 0.3 * z_bytes
    assert peak_bytes(lambda: rcda(*tensors, backend="reference"), torch.device("cpu")) > z_bytes


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_keeps_the_contract_of_torch_library() -> None:
    size = SIZES["wide"]
    float32 = tuple(tensor.detach().float().requires_grad_() for tensor in arguments(*size))
    for masks in ((None, None), masks_of(size)):
        torch.library.opcheck(torch.ops.anchordetr.rcda_tiled.default, (*float32, None, None, *masks, 0.5))


def test_auto_explains_itself() -> None:
    q_x, _, _, _, value = arguments(*SIZES["wide"])
    assert explain(q_x, value).startswith("dense: a map of 3x9 is small")
    assert explain(q_x, value, dropout_p=0.1).startswith("reference: dropout")
    q_x, _, _, _, value = arguments(1, 1, 5, 30, 40, 4)
    assert explain(q_x, value).startswith("tiled: ")


def test_a_backend_without_dropout_says_so() -> None:
    with pytest.raises(ValueError, match="'tiled' has no dropout"):
        rcda(*arguments(*SIZES["wide"]), dropout_p=0.1, backend="tiled")


def test_mixed_dtypes_are_named() -> None:
    q_x, *others = arguments(*SIZES["wide"])
    with pytest.raises(ValueError, match=r"one dtype; got torch.float32, torch.float64"):
        rcda(q_x.float(), *others)


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

"""The operator against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anchordetr.profiling.peak_memory import peak_bytes
from anchordetr.rcda import explain, functional, rcda

BACKENDS = [name for name in functional.BACKENDS if name != "triton"]  # see test_triton.py

SIZES = {  # B, M, N, H, W, D
    "one_location": (1, 1, 1, 1, 1, 4),
    "wide": (2, 2, 5, 3, 9, 4),
    "tall": (2, 3, 7, 11, 2, 8),
}
SMALL_SIZES = {"wide": (2, 1, 3, 2, 5, 2), "tall": (1, 2, 3, 5, 3, 4)}
KINDS = ["full", "masked", "biased", "biased_x", "masked_and_biased"]


def arguments(batch: int, heads: int, queries: int, height: int, width: int, depth: int) -> tuple[Tensor, ...]:
    shapes = (
        (batch, heads, queries, depth),
        (batch, heads, queries, depth),
        (batch, heads, width, depth),
        (batch, heads, height, depth),
        (batch, heads, height, width, depth + 1),
    )
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


def biases_of(size: tuple[int, ...]) -> dict[str, Tensor]:
    batch, heads, queries, height, width, _ = size
    lengths = {"bias_x": width, "bias_y": height}
    return {
        name: torch.randn(batch, heads, queries, length, dtype=torch.float64, requires_grad=True)
        for name, length in lengths.items()
    }


def masks_of(size: tuple[int, ...]) -> dict[str, Tensor]:
    """The first image's last columns and the last image's last row are padding."""
    batch, _, _, height, width, _ = size
    mask_x = torch.ones(batch, width, dtype=torch.bool)
    mask_y = torch.ones(batch, height, dtype=torch.bool)
    mask_x[0, 1:] = False
    mask_y[-1, -1] = height == 1
    return {"mask_x": mask_x, "mask_y": mask_y}


def additions(size: tuple[int, ...], kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return masks and biases."""
    biases = biases_of(size) if "biased" in kind else {}
    if kind == "biased_x":
        del biases["bias_y"]
    return (masks_of(size) if "masked" in kind else {}), biases


def dense(
    q_x: Tensor,
    q_y: Tensor,
    k_x: Tensor,
    k_y: Tensor,
    value: Tensor,
    masks: dict[str, Tensor],
    biases: dict[str, Tensor],
) -> Tensor:
    """Dense attention over the H·W locations with logits (q_x·k_x[w] + q_y·k_y[h])·scale + bias_x[w] + bias_y[h]."""
    height, width = value.shape[2:4]
    query = torch.cat((q_x, q_y), dim=-1)
    key = torch.cat(
        (
            k_x[:, :, None].expand(-1, -1, height, -1, -1),
            k_y[:, :, :, None].expand(-1, -1, -1, width, -1),
        ),
        dim=-1,
    )
    added = torch.zeros(*q_x.shape[:3], height, width, dtype=value.dtype)
    added = added + biases.get("bias_x", torch.zeros(width))[..., None, :]
    added = added + biases.get("bias_y", torch.zeros(height))[..., :, None]
    if masks:
        valid = masks["mask_y"][:, :, None] & masks["mask_x"][:, None, :]
        added = added.masked_fill(~valid[:, None, None], float("-inf"))
    return F.scaled_dot_product_attention(
        query, key.flatten(2, 3), value.flatten(2, 3), attn_mask=added.flatten(3), scale=q_x.shape[-1] ** -0.5
    )


def assert_same_gradients(actual: Tensor, expected: Tensor, tensors: tuple[Tensor, ...]) -> None:
    cotangent = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(actual, tensors, cotangent),
        torch.autograd.grad(expected, tensors, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_dense_attention_with_summed_logits(backend: str, size: tuple[int, ...], kind: str) -> None:
    tensors = arguments(*size)
    masks, biases = additions(size, kind)
    expected = dense(*tensors, masks, biases)
    actual = rcda(*tensors, **masks, **biases, backend=backend)
    torch.testing.assert_close(actual, expected)
    assert_same_gradients(actual, expected, (*tensors, *biases.values()))


@pytest.mark.parametrize("kind", ["full", "masked_and_biased"])
@pytest.mark.parametrize("size", SMALL_SIZES.values(), ids=SMALL_SIZES.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_agree_with_finite_differences(backend: str, size: tuple[int, ...], kind: str) -> None:
    masks, biases = additions(size, kind)

    def attend(*tensors: Tensor) -> Tensor:
        return rcda(*tensors[:5], **masks, **dict(zip(biases, tensors[5:], strict=True)), backend=backend)

    torch.autograd.gradcheck(attend, (*arguments(*size), *biases.values()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_biases_shared_by_images_and_heads_get_the_sum_of_the_gradients(backend: str) -> None:
    size = SIZES["wide"]
    tensors = arguments(*size)
    shared = {
        "bias_x": torch.randn(1, 2, 5, 9, dtype=torch.float64, requires_grad=True),
        "bias_y": torch.randn(2, 1, 5, 3, dtype=torch.float64, requires_grad=True),
    }
    full = {name: bias.detach().expand(2, 2, -1, -1).clone().requires_grad_() for name, bias in shared.items()}
    actual, expected = (rcda(*tensors, **biases, backend=backend) for biases in (shared, full))
    torch.testing.assert_close(actual, expected)
    ours = torch.autograd.grad(actual.square().sum(), tuple(shared.values()))
    theirs = torch.autograd.grad(expected.square().sum(), tuple(full.values()))
    torch.testing.assert_close(ours[0], theirs[0].sum(dim=0, keepdim=True))
    torch.testing.assert_close(ours[1], theirs[1].sum(dim=1, keepdim=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_image_with_nothing_to_attend_to_gets_zeros(backend: str) -> None:
    size = SIZES["wide"]
    tensors = arguments(*size)
    mask_x, mask_y = torch.ones(2, 9, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    mask_x[0] = False
    for biases in ({}, biases_of(size)):
        output = rcda(*tensors, mask_x, mask_y, **biases, backend=backend)
        assert (output[0] == 0).all()
        assert (output[1] != 0).any()
        for gradient in torch.autograd.grad(output.sum(), (*tensors, *biases.values())):
            assert torch.isfinite(gradient).all()


EMPTY = {
    "B": (0, 2, 5, 3, 9, 4),
    "M": (2, 0, 5, 3, 9, 4),
    "N": (2, 2, 0, 3, 9, 4),
    "H": (2, 2, 5, 0, 9, 4),
    "W": (2, 2, 5, 3, 0, 4),
    "H_and_W": (2, 2, 5, 0, 0, 4),
}


@pytest.mark.parametrize("kind", ["full", "masked_and_biased"])
@pytest.mark.parametrize("size", EMPTY.values(), ids=EMPTY.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_dimension_gives_zeros_with_gradients(backend: str, size: tuple[int, ...], kind: str) -> None:
    tensors = arguments(*size)
    biases = biases_of(size) if "biased" in kind else {}
    masks = {"mask_x": torch.ones(size[0], size[4]).bool(), "mask_y": torch.ones(size[0], size[3]).bool()}
    output = rcda(*tensors, **(masks if "masked" in kind else {}), **biases, backend=backend)
    assert output.shape == (*size[:3], 5)
    assert (output == 0).all()
    inputs = (*tensors, *biases.values())
    for tensor, gradient in zip(inputs, torch.autograd.grad(output.sum(), inputs), strict=True):
        assert gradient.shape == tensor.shape
        assert (gradient == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_without_channels_give_an_empty_output(backend: str) -> None:
    *tensors, value = arguments(*SIZES["wide"])
    inputs = (*tensors, value[..., :0])
    output = rcda(*inputs, backend=backend)
    assert output.shape == (2, 2, 5, 0)
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(output.sum(), inputs))


@pytest.mark.parametrize("backend", BACKENDS)
def test_queries_without_channels_attend_by_their_biases_alone(backend: str) -> None:
    *tensors, value = arguments(*SIZES["wide"])
    empty = [tensor[..., :0] for tensor in tensors]
    mean = value.mean(dim=(2, 3)).unsqueeze(2).expand(-1, -1, 5, -1)
    torch.testing.assert_close(rcda(*empty, value, backend=backend), mean)
    biases = biases_of(SIZES["wide"])
    actual = rcda(*empty, value, **biases, backend=backend)
    expected = dense(*(torch.zeros_like(tensor) for tensor in tensors), value, {}, biases)
    torch.testing.assert_close(actual, expected)
    assert_same_gradients(actual, expected, (value, *biases.values()))


@pytest.mark.parametrize("size", EMPTY.values(), ids=EMPTY.keys())
def test_the_operator_itself_takes_empty_dimensions(size: tuple[int, ...]) -> None:
    tensors = arguments(*size)
    output = torch.ops.anchordetr.rcda_tiled(*tensors, None, None, None, None, 0.5)
    assert output.shape == (*size[:3], 5)
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(output.sum(), tensors))


@pytest.mark.parametrize("masked", [False, True], ids=["biased", "masked_and_biased"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_biases_of_minus_infinity_hide_as_masks_do(backend: str, masked: bool) -> None:
    """A query whose biases and mask leave nothing gets zeros; nothing is NaN, gradients included."""
    size = SIZES["wide"]
    tensors, biases = arguments(*size), biases_of(size)
    masks = {"mask_x": torch.arange(9).expand(2, 9) < 6} if masked else {}
    hidden = torch.zeros(2, 2, 5, 9, dtype=torch.bool)
    hidden[:, :, 1, 2:5] = True
    hidden[:, :, 2, : 6 if masked else 9] = True
    biases["bias_x"] = biases["bias_x"].detach().masked_fill(hidden, float("-inf")).requires_grad_()
    output = rcda(*tensors, **masks, **biases, backend=backend)
    inputs = (*tensors, *biases.values())
    torch.testing.assert_close(
        output, dense(*tensors, {**masks, "mask_y": torch.ones(2, 3).bool()} if masks else {}, biases)
    )
    assert (output[:, :, 2] == 0).all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.square().sum(), inputs))


HUGE = {"float32": (torch.float32, 1e19), "bfloat16": (torch.bfloat16, 1e19), "float16": (torch.float16, 1e4)}
SIGNS = {"random": 1.0, "equal": 0.0}


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("spread", SIGNS.values(), ids=SIGNS.keys())
@pytest.mark.parametrize(("dtype", "size"), HUGE.values(), ids=HUGE.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_queries_and_keys_whose_products_overflow_give_the_output_of_float64(
    backend: str, dtype: torch.dtype, size: float, spread: float, masked: bool
) -> None:
    *axes, value = (tensor.detach() for tensor in arguments(2, 2, 20, 17, 18, 32))
    tensors = [(size * (axis * spread + (1.0 - spread))).to(dtype).requires_grad_() for axis in axes]
    tensors.append(value.to(dtype).requires_grad_())
    masks = masks_of((2, 2, 20, 17, 18, 32)) if masked else {}
    output = rcda(*tensors, **masks, backend=backend)
    expected = rcda(*(tensor.double() for tensor in tensors), **masks, backend="reference")
    torch.testing.assert_close(output.double(), expected, atol=8 * torch.finfo(dtype).eps, rtol=0)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), tensors))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_largest_finite_biases_give_finite_outputs(backend: str) -> None:
    tensors = [tensor.detach().float() for tensor in arguments(*SIZES["wide"])]
    least = torch.finfo(torch.float32).min
    bias_x, bias_y = torch.full((2, 2, 5, 9), least), torch.full((2, 2, 5, 3), least)
    bias_x[..., 4] = bias_y[..., 1] = 0.0
    output = rcda(*tensors, bias_x=bias_x, bias_y=bias_y, backend=backend)
    torch.testing.assert_close(output, tensors[4][:, :, 1, 4][:, :, None].expand_as(output))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_in_the_arguments_stays_visible(backend: str) -> None:
    q_x, *others = (tensor.detach() for tensor in arguments(*SIZES["wide"]))
    q_x[0, 0, 0, 0] = float("nan")
    biases = biases_of(SIZES["wide"])
    for added in ({}, biases):
        output = rcda(q_x, *others, **added, backend=backend)
        assert output[0, 0, 0].isnan().all()
        assert output[1].isfinite().all()


LARGE = {"float32": (torch.float32, 1e19), "float16": (torch.float16, 1e4)}


@pytest.mark.parametrize(("dtype", "size"), LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_large_logits_give_the_output_of_float64(backend: str, dtype: torch.dtype, size: float) -> None:
    *axes, value = (tensor.detach().to(dtype) for tensor in arguments(1, 2, 40, 12, 15, 16))
    tensors = [*((axis * size**0.5).requires_grad_() for axis in axes), value.requires_grad_()]
    output = rcda(*tensors, backend=backend)
    expected = rcda(*(tensor.double() for tensor in tensors), backend="reference")
    torch.testing.assert_close(output.double(), expected, atol=8 * torch.finfo(dtype).eps, rtol=0)
    for gradient in torch.autograd.grad(output.sum(), tensors):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(("dtype", "size"), LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "sdpa"])
def test_what_all_logits_of_an_axis_share_hides_neither_ties_nor_differences(
    backend: str, dtype: torch.dtype, size: float
) -> None:
    """Columns share a large logit, which would swallow the logarithm of their number and the logits of the rows."""
    tensors = [tensor.detach().to(dtype) for tensor in arguments(1, 2, 7, 5, 9, 16)]
    tensors[0][..., 0] = tensors[2][..., 0] = 2.0 * size**0.5
    expected = rcda(*(tensor.double() for tensor in tensors), backend="reference")
    output = rcda(*tensors, backend=backend)
    torch.testing.assert_close(output.double(), expected, atol=8 * torch.finfo(dtype).eps, rtol=0)


def test_large_logits_of_padding_do_not_reach_the_others() -> None:
    q_x, q_y, k_x, k_y, value = (tensor.detach().float() for tensor in arguments(*SIZES["wide"]))
    mask_x = torch.arange(9).expand(2, 9) < 6
    padded = k_x.masked_fill(~mask_x[:, None, :, None], 1e19)
    for backend in BACKENDS:
        torch.testing.assert_close(
            rcda(q_x, q_y, padded, k_y, value, mask_x, backend=backend),
            rcda(q_x, q_y, k_x, k_y, value, mask_x, backend=backend),
        )


@pytest.mark.parametrize("biased", [False, True], ids=["full", "biased"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_is_as_accurate_as_its_dtype(backend: str, dtype: torch.dtype, biased: bool) -> None:
    """Compared with float64 on the same rounded values; errors in units of the dtype's rounding."""
    size = (1, 2, 40, 12, 15, 16)
    biases = biases_of(size) if biased else {}
    given = (*arguments(*size), *biases.values())
    tensors = tuple(tensor.to(dtype).detach().requires_grad_() for tensor in given)
    exact = tuple(tensor.double().detach().requires_grad_() for tensor in tensors)
    output, expected = (
        rcda(*inputs[:5], **dict(zip(biases, inputs[5:], strict=True)), backend=name)
        for inputs, name in ((tensors, backend), (exact, "reference"))
    )
    assert output.dtype == dtype
    cotangent = torch.randn_like(expected)
    gradients = torch.autograd.grad(output, tensors, cotangent.to(dtype))
    exact_gradients = torch.autograd.grad(expected, exact, cotangent.to(dtype).double())
    pairs = zip((output, *gradients), (expected, *exact_gradients), strict=True)
    for ours, theirs in pairs:
        error = (ours.double() - theirs).abs().max() / theirs.abs().max()
        assert error < 6 * torch.finfo(dtype).eps


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_arguments_are_read_in_place(backend: str) -> None:
    """Queries and values as projections leave them, heads beside channels, inside memory that holds NaN."""
    biases = biases_of(SIZES["wide"])
    tensors = (*arguments(*SIZES["wide"]), *biases.values())
    strided = tuple(inside_nan(tensor) for tensor in tensors)
    actual, expected = (
        rcda(*inputs[:5], bias_x=inputs[5], bias_y=inputs[6], backend=backend) for inputs in (strided, tensors)
    )
    torch.testing.assert_close(actual, expected)
    for ours, theirs in zip(
        torch.autograd.grad(actual.sum(), strided), torch.autograd.grad(expected.sum(), tensors), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def inside_nan(tensor: Tensor) -> Tensor:
    """Return (B, M, ..., C) again, whose memory lies as (B, ..., M, C) between NaN."""
    moved = tensor.detach().movedim(1, -2)
    holder = torch.full((*moved.shape[:-1], moved.shape[-1] + 3), float("nan"), dtype=moved.dtype)
    holder[..., 1:-2] = moved
    return holder[..., 1:-2].movedim(-2, 1).requires_grad_()


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
    biases = tuple(bias.detach().float().requires_grad_() for bias in biases_of(size).values())
    operator = torch.ops.anchordetr.rcda_tiled.default
    for added in ((None, None, None, None), (*biases, *masks_of(size).values()), (None, biases[1], None, None)):
        torch.library.opcheck(operator, (*float32, *added, 0.5))


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_biases_compile_without_a_graph_break(backend: str, autocast: bool) -> None:
    size = SIZES["wide"]
    tensors = [tensor.detach().float().requires_grad_() for tensor in arguments(*size)]
    biases = {name: bias.detach().float()[:1].requires_grad_() for name, bias in biases_of(size).items()}
    inputs = (*tensors, *biases.values())

    def attend() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return rcda(*tensors, **masks_of(size), **biases, backend=backend)

    actual, expected = torch.compile(attend, fullgraph=True, backend="aot_eager")(), attend()
    assert actual.dtype == (torch.bfloat16 if autocast else torch.float32)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual.float().square().sum(), inputs),
        torch.autograd.grad(expected.float().square().sum(), inputs),
    )


def test_auto_explains_itself() -> None:
    q_x, _, _, _, value = arguments(*SIZES["wide"])
    assert explain(q_x, value).startswith("dense: a map of 3x9 is small")
    assert explain(q_x, value, dropout_p=0.1).startswith("reference: dropout")
    assert "biases of x and y" in explain(q_x, value, **biases_of(SIZES["wide"]))
    q_x, _, _, _, value = arguments(1, 1, 5, 30, 40, 4)
    assert explain(q_x, value).startswith("tiled: ")
    assert "bias" not in explain(q_x, value)


def test_a_backend_without_dropout_says_so() -> None:
    with pytest.raises(ValueError, match="'tiled' has no dropout"):
        rcda(*arguments(*SIZES["wide"]), dropout_p=0.1, backend="tiled")


def test_mixed_dtypes_are_named() -> None:
    q_x, *others = arguments(*SIZES["wide"])
    with pytest.raises(ValueError, match=r"one dtype; got torch.float32, torch.float64"):
        rcda(q_x.float(), *others)
    with pytest.raises(ValueError, match=r"biases of one dtype; got torch.float32, torch.float64"):
        rcda(q_x, *others, bias_x=torch.zeros(2, 2, 5, 9))
    with pytest.raises(ValueError, match=r"mask_y to be boolean.*float32.*bias_y"):
        rcda(q_x, *others, mask_y=torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"floating-point.*int64"):
        rcda(*(tensor.long() for tensor in (q_x, *others)))


def test_scale_multiplies_the_logits() -> None:
    q_x, q_y, k_x, k_y, value = arguments(*SIZES["wide"])
    biases = biases_of(SIZES["wide"])
    for backend in BACKENDS:
        torch.testing.assert_close(
            rcda(q_x, q_y, k_x, k_y, value, scale=0.2, backend=backend, **biases),
            rcda(0.4 * q_x, 0.4 * q_y, k_x, k_y, value, scale=0.5, backend=backend, **biases),
        )


def test_dropout_drops_weights_and_keeps_the_mean() -> None:
    q_x, q_y, k_x, k_y, _ = arguments(1, 1, 4000, 6, 6, 4)
    ones = torch.ones(1, 1, 6, 6, 1, dtype=torch.float64)
    output = rcda(q_x, q_y, k_x, k_y, ones, dropout_p=0.5)
    assert output.std() > 0.1
    assert output.mean().item() == pytest.approx(1.0, abs=0.05)


def test_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match=r"'referense'.*Did you mean 'reference'"):
        rcda(*arguments(*SIZES["wide"]), backend="referense")
    with pytest.raises(ValueError, match=r"Unknown RCDA backend 'summed'.*dense"):
        rcda(*arguments(*SIZES["wide"]), backend="summed")


@pytest.mark.parametrize("name", ["q_y", "k_x", "k_y", "mask_x", "mask_y"])
def test_a_wrong_shape_is_named(name: str) -> None:
    q_x, q_y, k_x, k_y, value = arguments(*SIZES["wide"])
    given = {"q_x": q_x, "q_y": q_y, "k_x": k_x, "k_y": k_y, "value": value}
    wrong = given.get(name, torch.ones(2, 30, dtype=torch.bool))[:, :1]
    if name == "q_y":
        wrong = q_y[:, :, :-1]
    with pytest.raises(ValueError, match=f"expects {name} of shape"):
        rcda(**{**given, name: wrong})


@pytest.mark.parametrize("shape", [(2, 2, 5, 8), (2, 2, 1, 9), (3, 2, 5, 9), (5, 9), (2, 3, 5, 9)], ids=str)
def test_a_bias_of_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    bias = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"expects bias_x of shape \(2, 2, 5, 9\).*may be 1; got"):
        rcda(*arguments(*SIZES["wide"]), bias_x=bias)

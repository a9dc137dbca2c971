"""The Triton kernels against the definition in float64: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from anchordetr.rcda import RowColumnAttention, rcda
from anchordetr.rcda.triton import heads_inside

# Triton 3.2, of torch 2.6, reads sizes from arrays of one element, which NumPy deprecated and then removed
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {  # B, M, N, H, W, D, Dv
    "one_location": (1, 1, 1, 1, 1, 16, 16),
    "one_query": (2, 1, 1, 3, 5, 16, 32),
    "wide": (2, 2, 70, 3, 67, 16, 16),
    "tall": (1, 2, 33, 37, 18, 20, 24),
    "deep": (1, 1, 9, 5, 4, 128, 128),
}


KINDS = {
    "full": (),
    "mask_x": ("mask_x",),
    "mask_y": ("mask_y",),
    "nothing_valid": ("mask_x", "mask_y"),
    "bias_x": ("bias_x",),
    "bias_y": ("bias_y",),
    "all": ("bias_x", "bias_y", "mask_x", "mask_y"),
}
Added = dict[str, Tensor]


def arguments(size: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    batch, heads, queries, height, width, depth, value_depth = size
    shapes = [(queries, depth), (queries, depth), (width, depth), (height, depth), (height, width, value_depth)]
    return [torch.randn(batch, heads, *shape, device=DEVICE).to(dtype).requires_grad_() for shape in shapes]


def masks_of(size: tuple[int, ...], kind: str) -> Added:
    batch, _, _, height, width, _, _ = size
    lengths = {"mask_x": width, "mask_y": height}
    masks = {}
    for name in (name for name in KINDS[kind] if name in lengths):
        masks[name] = torch.rand(batch, lengths[name], device=DEVICE) < 0.7
        masks[name][:, 0] = kind != "nothing_valid"
        masks[name][0] &= kind != "nothing_valid"
    return masks


def biases_of(size: tuple[int, ...], kind: str, dtype: torch.dtype) -> Added:
    batch, heads, queries, height, width, _, _ = size
    lengths = {"bias_x": width, "bias_y": height}
    return {
        name: torch.randn(batch, heads, queries, lengths[name], device=DEVICE).to(dtype).requires_grad_()
        for name in KINDS[kind]
        if name in lengths
    }


def assert_equal_to_float64(tensors: list[Tensor], masks: Added, biases: Added, eps: float) -> None:
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    exact_biases = {name: bias.detach().double().requires_grad_() for name, bias in biases.items()}
    output = rcda(*tensors, **masks, **biases, backend="triton")
    expected = rcda(*exact, **masks, **exact_biases, backend="reference")
    cotangent = torch.randn_like(expected).to(output.dtype)
    names = ("output", "dq_x", "dq_y", "dk_x", "dk_y", "dvalue", *(f"d{name}" for name in biases))
    ours = (output, *torch.autograd.grad(output, (*tensors, *biases.values()), cotangent))
    theirs = (expected, *torch.autograd.grad(expected, (*exact, *exact_biases.values()), cotangent.double()))
    for name, mine, true in zip(names, ours, theirs, strict=True):
        error = (mine.double() - true).abs().max() / true.abs().max().clamp(min=1.0)
        assert error < eps, f"{name} is off by {error:.1e}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_equals_the_definition(size: tuple[int, ...], kind: str) -> None:
    float32 = torch.float32
    assert_equal_to_float64(arguments(size, float32), masks_of(size, kind), biases_of(size, kind, float32), eps=4e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_is_as_accurate_as_its_dtype(dtype: torch.dtype) -> None:
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bfloat16 matrices as if they held integers")
    size = SIZES["wide"]
    biases = biases_of(size, "all", dtype)
    assert_equal_to_float64(arguments(size, dtype), {}, biases, eps=6 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e19), (torch.float16, 1e4)], ids=str)
@pytest.mark.parametrize("kind", ["different", "shared"])
def test_large_logits_give_the_output_of_float64(kind: str, dtype: torch.dtype, size: float) -> None:
    *axes, value = (tensor.detach() for tensor in arguments(SIZES["wide"], torch.float32))
    if kind == "shared":
        axes[0][..., 0] = axes[2][..., 0] = 2.0 * size**0.5
    else:
        axes = [axis * size**0.5 for axis in axes]
    tensors = [tensor.to(dtype).requires_grad_() for tensor in (*axes, value)]
    output = rcda(*tensors, backend="triton")
    expected = rcda(*(tensor.double() for tensor in tensors), backend="reference")
    torch.testing.assert_close(output.double(), expected, atol=8 * torch.finfo(dtype).eps, rtol=0)
    gradients, exact = (torch.autograd.grad(tensor.double().sum(), tensors) for tensor in (output, expected))
    torch.testing.assert_close(gradients[4], exact[4], atol=0.05, rtol=0)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("empty", range(7), ids=["B", "M", "N", "H", "W", "D", "Dv"])
def test_an_empty_dimension_gives_what_the_definition_gives(empty: int) -> None:
    size = tuple(0 if index == empty else length for index, length in enumerate((2, 2, 5, 3, 4, 8, 8)))
    tensors = arguments(size, torch.float32)
    outputs = [rcda(*tensors, backend=backend) for backend in ("triton", "reference")]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*(torch.autograd.grad(output.sum(), tensors) for output in outputs))


def test_the_value_of_a_module_is_read_in_place() -> None:
    projected = torch.randn(2, 3, 5, 32, device=DEVICE)
    value = projected.unflatten(-1, (4, 8)).permute(0, 3, 1, 2, 4)
    assert heads_inside(value).data_ptr() == projected.data_ptr()
    assert torch.equal(heads_inside(value).flatten(-2), projected)


def test_the_output_lies_as_its_projection_reads_it() -> None:
    output = rcda(*arguments(SIZES["wide"], torch.float32), backend="triton")
    assert output.transpose(1, 2).is_contiguous()


def test_strided_arguments_inside_memory_that_holds_nan() -> None:
    size = SIZES["tall"]
    strided = [inside_nan(tensor) for tensor in arguments(size, torch.float32)]
    kind = "all"
    biases = {name: inside_nan(bias) for name, bias in biases_of(size, kind, torch.float32).items()}
    assert_equal_to_float64(strided, masks_of(size, kind), biases, eps=4e-6)


def inside_nan(tensor: Tensor) -> Tensor:
    """Return (B, M, ..., C) again, whose memory lies as (B, ..., M, C) between NaN."""
    moved = tensor.detach().movedim(1, -2)
    holder = torch.full((*moved.shape[:-1], moved.shape[-1] + 3), float("nan"), device=DEVICE)
    holder[..., 1:-2] = moved
    return holder[..., 1:-2].movedim(-2, 1).requires_grad_()


def test_gradients_are_deterministic() -> None:
    tensors = arguments(SIZES["wide"], torch.float32)
    runs = [torch.autograd.grad(rcda(*tensors, backend="triton").sum(), tensors) for _ in range(2)]
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_keeps_the_contract_of_torch_library() -> None:
    size, kind = SIZES["one_query"], "all"
    tensors = arguments(size, torch.float32)
    added = (*biases_of(size, kind, torch.float32).values(), *masks_of(size, kind).values())
    torch.library.opcheck(torch.ops.anchordetr.rcda_triton.default, (*tensors, *added, 0.5))


def test_the_module_compiles_and_checkpoints() -> None:
    module = RowColumnAttention(32, 2, backend="triton").to(DEVICE)
    features = torch.randn(1, 5, 6, 32, device=DEVICE)
    expected = RowColumnAttention(32, 2, backend="reference").to(DEVICE)
    expected.load_state_dict(module.state_dict())
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features), expected(features))
    for run in (lambda: compiled(features), lambda: checkpoint(module, features, use_reentrant=False)):
        module.zero_grad()
        expected.zero_grad()
        run().sum().backward()
        expected(features).sum().backward()
        torch.testing.assert_close(module.in_proj_weight.grad, expected.in_proj_weight.grad, atol=1e-4, rtol=1e-4)


def test_tensors_that_are_on_no_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    tensors = [tensor.cpu() for tensor in arguments(SIZES["one_query"], torch.float32)]
    with pytest.raises(ValueError, match="needs tensors on a GPU; got cpu"):
        rcda(*tensors, backend="triton")

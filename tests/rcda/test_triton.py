"""The Triton kernels against the definition in float64: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from anchordetr.rcda import RowColumnAttention, rcda

# Triton 3.2, of torch 2.6, reads sizes from arrays of one element, which NumPy deprecated and then removed
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {  # B, M, N, H, W, D, Dv
    "one_cell": (1, 1, 1, 1, 1, 16, 16),
    "one_query": (2, 1, 1, 3, 5, 16, 32),
    "wide": (2, 2, 70, 3, 67, 16, 16),
    "tall": (1, 2, 33, 37, 18, 20, 24),
    "deep": (1, 1, 9, 5, 4, 128, 128),
}


def arguments(size: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    batch, heads, queries, height, width, depth, value_depth = size
    shapes = [(queries, depth), (queries, depth), (width, depth), (height, depth), (height, width, value_depth)]
    return [torch.randn(batch, heads, *shape, device=DEVICE).to(dtype).requires_grad_() for shape in shapes]


def masks_of(size: tuple[int, ...], kind: str) -> tuple[Tensor | None, Tensor | None]:
    batch, _, _, height, width, _, _ = size
    mask_x = torch.rand(batch, width, device=DEVICE) < 0.7
    mask_y = torch.rand(batch, height, device=DEVICE) < 0.7
    mask_x[:, 0] = mask_y[:, 0] = True
    if kind == "nothing_valid":
        mask_x[0] = False
    return {"full": (None, None), "x": (mask_x, None), "y": (None, mask_y)}.get(kind, (mask_x, mask_y))


def assert_equal_to_float64(tensors: list[Tensor], masks: tuple[Tensor | None, Tensor | None], eps: float) -> None:
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    answer, expected = rcda(*tensors, *masks, backend="triton"), rcda(*exact, *masks, backend="reference")
    cotangent = torch.randn_like(expected).to(answer.dtype)
    names = ("output", "dq_x", "dq_y", "dk_x", "dk_y", "dvalue")
    ours = (answer, *torch.autograd.grad(answer, tensors, cotangent))
    theirs = (expected, *torch.autograd.grad(expected, exact, cotangent.double()))
    for name, mine, true in zip(names, ours, theirs, strict=True):
        error = (mine.double() - true).abs().max() / true.abs().max().clamp(min=1.0)
        assert error < eps, f"{name} is off by {error:.1e}"


@pytest.mark.parametrize("kind", ["full", "x", "y", "both", "nothing_valid"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_equals_the_definition(size: tuple[int, ...], kind: str) -> None:
    assert_equal_to_float64(arguments(size, torch.float32), masks_of(size, kind), eps=4e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_is_as_accurate_as_its_dtype(dtype: torch.dtype) -> None:
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bfloat16 matrices as if they held integers")
    assert_equal_to_float64(arguments(SIZES["wide"], dtype), (None, None), eps=6 * torch.finfo(dtype).eps)


def test_strided_arguments_inside_memory_that_holds_nan() -> None:
    size = SIZES["tall"]
    strided = []
    for tensor in arguments(size, torch.float32):
        moved = tensor.detach().movedim(1, -2)
        holder = torch.full((*moved.shape[:-1], moved.shape[-1] + 3), float("nan"), device=DEVICE)
        holder[..., 1:-2] = moved
        strided.append(holder[..., 1:-2].movedim(-2, 1).requires_grad_())
    assert_equal_to_float64(strided, masks_of(size, "both"), eps=4e-6)


def test_gradients_are_deterministic() -> None:
    tensors = arguments(SIZES["wide"], torch.float32)
    runs = [torch.autograd.grad(rcda(*tensors, backend="triton").sum(), tensors) for _ in range(2)]
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_keeps_the_contract_of_torch_library() -> None:
    tensors = arguments(SIZES["one_query"], torch.float32)
    torch.library.opcheck(
        torch.ops.anchordetr.rcda_triton.default, (*tensors, None, None, *masks_of(SIZES["one_query"], "both"), 0.5)
    )


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

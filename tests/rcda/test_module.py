"""RowColumnAttention against the original module and against itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pseudo_weights import pseudo_state_dict
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anchordetr.rcda import RowColumnAttention, functional, rcda

BACKENDS = [name for name in functional.BACKENDS if name != "triton"]  # see test_triton.py
CASES = {"rcda_wide": 4, "rcda_tall_padded": 4, "rcda_square_one_head": 1}


def valid_mean(features: Tensor, mask: Tensor, dim: int) -> Tensor:
    valid = mask[:, :, None, None] if dim == 1 else mask[:, None, :, None]
    return (features * valid).sum(dim) / valid.sum(dim)


@pytest.mark.parametrize(("case", "heads"), CASES.items(), ids=CASES.keys())
def test_golden_output_weights_and_gradients(
    case: str, heads: int, golden: Callable[[str], dict[str, Tensor]], golden_json: Callable[[str], Any]
) -> None:
    """The original takes separate keys for rows and columns; as positions they are what is added to the value."""
    tensors = golden(case)
    module = RowColumnAttention(32, heads)
    module.load_state_dict(pseudo_state_dict(golden_json("keys_rcda_32")))
    inputs = {
        name: tensors[name].requires_grad_() for name in ("query_row", "query_col", "key_row", "key_col", "value")
    }
    valid = ~tensors["key_padding_mask"]
    mask_x, mask_y = valid.any(dim=1), valid.any(dim=2)
    output, (a_x, a_y) = module(
        torch.zeros_like(inputs["query_row"]),
        inputs["value"],
        query_pos_x=inputs["query_row"],
        query_pos_y=inputs["query_col"],
        memory_pos_x=valid_mean(inputs["key_row"] - inputs["value"], mask_y, 1),
        memory_pos_y=valid_mean(inputs["key_col"] - inputs["value"], mask_x, 2),
        mask_x=mask_x,
        mask_y=mask_y,
        need_weights=True,
    )
    torch.testing.assert_close(output, tensors["output"], atol=1e-5, rtol=0)
    weights = torch.einsum("bmnw,bmnh->bmnhw", a_x, a_y).mean(dim=1)
    torch.testing.assert_close(weights, tensors["weights"], atol=1e-5, rtol=0)

    (output * tensors["cotangent"]).sum().backward()
    gradients = {name: tensor.grad for name, tensor in inputs.items()}
    gradients |= {
        "in_proj_weight": module.in_proj_weight.grad,
        "in_proj_bias": module.in_proj_bias.grad,
        "out_proj_weight": module.out_proj.weight.grad,
    }
    for name, gradient in gradients.items():
        expected = tensors[f"grad_{name}"]
        worst = (gradient - expected).abs().max() / expected.abs().max()
        assert worst < 1e-5, f"gradient of {name} is off by {worst:.1e}"


def test_self_attention_is_attention_to_the_map_itself() -> None:
    module = RowColumnAttention(16, 4)
    features = torch.randn(2, 3, 5, 16)
    expected = module(features.flatten(1, 2), features).view_as(features)
    torch.testing.assert_close(module(features), expected)


def test_a_map_attends_to_another_map() -> None:
    module = RowColumnAttention(16, 4)
    features, memory = torch.randn(2, 3, 5, 16), torch.randn(2, 4, 5, 16)
    expected = module(features.flatten(1, 2), memory).view_as(features)
    torch.testing.assert_close(module(features, memory), expected)
    same_size = torch.randn_like(features)
    expected = module(features.flatten(1, 2), same_size).view_as(features)
    torch.testing.assert_close(module(features, same_size), expected)


def test_an_image_of_padding_alone_gives_finite_output_and_gradients() -> None:
    mask_x, mask_y = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    mask_x[1], mask_y[1] = False, False
    module, features = RowColumnAttention(16, 4), torch.randn(2, 3, 5, 16, requires_grad=True)
    output = module(features, mask_x=mask_x, mask_y=mask_y)
    output.square().sum().backward()
    for value in (output, features.grad, module.in_proj_weight.grad):
        assert value is not None
        assert value.isfinite().all()


def test_positions_that_repeat_equal_positions_written_out() -> None:
    module = RowColumnAttention(16, 4)
    features, pos_x, pos_y = torch.randn(2, 3, 5, 16), torch.randn(1, 5, 16), torch.randn(1, 3, 16)
    repeated = module(features, features, pos_x.unsqueeze(1), pos_y.unsqueeze(2), pos_x, pos_y)
    written_out = module(
        features,
        features,
        pos_x.unsqueeze(1).expand_as(features),
        pos_y.unsqueeze(2).expand_as(features),
        pos_x.expand(2, -1, -1),
        pos_y.expand(2, -1, -1),
    )
    torch.testing.assert_close(repeated, written_out)


def test_padding_changes_nothing() -> None:
    module = RowColumnAttention(16, 4)
    query, memory = torch.randn(1, 7, 16), torch.randn(1, 3, 5, 16)
    padded = torch.full((1, 4, 8, 16), 100.0)
    padded[:, :3, :5] = memory
    mask_x, mask_y = torch.arange(8)[None] < 5, torch.arange(4)[None] < 3
    torch.testing.assert_close(module(query, padded, mask_x=mask_x, mask_y=mask_y), module(query, memory))


def test_dropout_acts_in_training_only() -> None:
    module = RowColumnAttention(16, 4, dropout=0.5)
    features = torch.randn(1, 3, 5, 16)
    assert not torch.equal(module(features), module(features))
    module.eval()
    torch.testing.assert_close(module(features), module(features))


class Layer(nn.Module):
    """Self-attention with positions and masks, on a map that the tiles must divide."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.attention = RowColumnAttention(32, 4, backend=backend)

    def forward(self, features: Tensor, pos_x: Tensor, pos_y: Tensor, mask_x: Tensor, mask_y: Tensor) -> Tensor:
        output: Tensor = self.attention(features, features, pos_x, pos_y, pos_x[0], pos_y[:, :, 0], mask_x, mask_y)
        return output


def layer_inputs() -> tuple[Tensor, ...]:
    mask_x, mask_y = torch.ones(2, 14, dtype=torch.bool), torch.ones(2, 11, dtype=torch.bool)
    mask_x[0, 9:] = False
    return torch.randn(2, 11, 14, 32), torch.randn(1, 1, 14, 32), torch.randn(1, 11, 1, 32), mask_x, mask_y


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_without_a_graph_break(backend: str) -> None:
    layer, inputs = Layer(backend), layer_inputs()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), layer(*inputs))
    for module in (layer, compiled):
        module.zero_grad()
        module(*inputs).sum().backward()
        gradient = layer.attention.in_proj_weight.grad
        if module is layer:
            expected = gradient
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_exports(backend: str) -> None:
    layer, inputs = Layer(backend), layer_inputs()
    exported = torch.export.export(layer, inputs)
    torch.testing.assert_close(exported.module()(*inputs), layer(*inputs))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_computes_in_bfloat16(backend: str) -> None:
    layer, inputs = Layer(backend), layer_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(*inputs)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), layer(*inputs), atol=0.05, rtol=0)
    output.float().sum().backward()
    assert layer.attention.in_proj_weight.grad is not None
    assert layer.attention.in_proj_weight.grad.dtype == torch.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_casts_the_operator_too(backend: str) -> None:
    shapes = [(7, 8), (7, 8), (9, 8), (5, 8), (5, 9, 8)]
    tensors = [torch.randn(1, 2, *shape) for shape in shapes]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rcda(*tensors, backend=backend).dtype == torch.bfloat16


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_checkpointing_gives_the_same_gradients(backend: str) -> None:
    layer, inputs = Layer(backend), layer_inputs()
    gradients = []
    for run in (layer, lambda *tensors: checkpoint(layer, *tensors, use_reentrant=False)):
        layer.zero_grad()
        run(*inputs).sum().backward()
        assert layer.attention.in_proj_weight.grad is not None
        gradients.append(layer.attention.in_proj_weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_bad_arguments_say_what_is_expected() -> None:
    with pytest.raises(ValueError, match="must divide"):
        RowColumnAttention(10, 4)
    with pytest.raises(ValueError, match="memory must be a map"):
        RowColumnAttention(16, 4)(torch.randn(1, 7, 16))


def test_import_loads_torch_and_nothing_of_the_detector() -> None:
    code = (
        "import sys, anchordetr.rcda\n"
        "heavy = ('timm', 'pycocotools', 'torchvision', 'scipy', 'pydantic', 'rich', 'anchordetr.detector')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [(0, 7), (7, 0), (0, 0)], ids=["rows", "columns", "both"])
def test_an_empty_map_gives_the_bias_of_the_output_with_gradients(size: tuple[int, int]) -> None:
    attention = RowColumnAttention(32, 4)
    torch.nn.init.normal_(attention.out_proj.bias)
    query, memory = torch.randn(1, 5, 32, requires_grad=True), torch.randn(1, *size, 32, requires_grad=True)
    output = attention(query, memory)
    assert torch.equal(output, attention.out_proj.bias.expand(1, 5, 32))
    output.sum().backward()
    gradients = [query.grad, memory.grad, *(parameter.grad for parameter in attention.parameters())]
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_weights_of_queries_and_keys_of_any_size_are_finite() -> None:
    attention = RowColumnAttention(32, 4)
    _, weights = attention(1e19 * torch.randn(1, 5, 32), 1e19 * torch.randn(1, 3, 4, 32), need_weights=True)
    for axis in weights:
        torch.testing.assert_close(axis.sum(dim=-1), torch.ones(1, 4, 5))

"""RowColumnAttention against the original module and against itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pseudo_weights import pseudo_state_dict
from torch import Tensor

from anchordetr.rcda import RowColumnAttention

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

"""Rotary positions: what depends on differences alone, and against dense attention written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anchordetr.rcda import RowColumnAttention
from anchordetr.rcda.rotary import RotaryPositions


def rotation_matrix(rotary: RotaryPositions, coordinate: float) -> Tensor:
    """(D, D), double precision: one rotation per pair of channels i, i + D/2."""
    half = rotary.depth // 2
    matrix = torch.zeros(2 * half, 2 * half, dtype=torch.float64)
    for i in range(half):
        turns = rotary.lowest * (rotary.highest / rotary.lowest) ** (i / max(half - 1, 1))
        angle = 2 * math.pi * turns * coordinate
        matrix[i, i] = matrix[i + half, i + half] = math.cos(angle)
        matrix[i, i + half], matrix[i + half, i] = -math.sin(angle), math.sin(angle)
    return matrix


@pytest.mark.parametrize("depth", [2, 8, 32])
def test_features_are_turned_in_planes(depth: int) -> None:
    rotary = RotaryPositions(depth)
    features, coordinate = torch.randn(1, 1, 3, depth), torch.tensor([[0.0, 0.3, 1.0]])
    turned = rotary(features, coordinate)
    for place in range(3):
        expected = rotation_matrix(rotary, float(coordinate[0, place])) @ features[0, 0, place].double()
        torch.testing.assert_close(turned[0, 0, place].double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned.norm(dim=-1), features.norm(dim=-1))


def test_logits_depend_on_differences_of_coordinates_alone() -> None:
    rotary = RotaryPositions(16)
    query, key = torch.randn(2, 3, 5, 16), torch.randn(2, 3, 7, 16)
    at_query, at_key = torch.rand(2, 5) / 2, torch.rand(2, 7) / 2
    here = rotary(query, at_query) @ rotary(key, at_key).transpose(-1, -2)
    for shift in (0.125, 0.5):
        there = rotary(query, at_query + shift) @ rotary(key, at_key + shift).transpose(-1, -2)
        torch.testing.assert_close(there, here, atol=1e-4, rtol=0)
    moved = rotary(query, at_query + 0.125) @ rotary(key, at_key).transpose(-1, -2)
    assert (moved - here).abs().max() > 1.0


def test_a_module_with_rotary_positions_equals_dense_attention_by_hand() -> None:
    """Logits are q_x R(x_n - x_w) k_x + q_y R(y_n - y_h) k_y, each axis turned by its own coordinate."""
    module, rotary = RowColumnAttention(16, 2), RotaryPositions(8)
    torch.nn.init.normal_(module.in_proj_bias)
    query, memory = torch.randn(1, 4, 16), torch.randn(1, 3, 5, 16)
    points, columns, rows = torch.rand(1, 4, 2), torch.rand(1, 5), torch.rand(1, 3)
    found = module(query, memory, rotate=rotary.between(points, columns, rows))

    weights, biases = module.in_proj_weight.double().chunk(5), module.in_proj_bias.double().chunk(5)
    inputs = (query[0], query[0], memory[0].mean(dim=0), memory[0].mean(dim=1), memory[0])
    q_x, q_y, k_x, k_y, value = (
        (part.double() @ weight.T + bias).unflatten(-1, (2, 8))
        for part, weight, bias in zip(inputs, weights, biases, strict=True)
    )
    heads = torch.zeros(4, 2, 8, dtype=torch.float64)
    for n in range(4):
        for m in range(2):
            logits = torch.zeros(3, 5, dtype=torch.float64)
            for h in range(3):
                for w in range(5):
                    over = rotation_matrix(rotary, float(columns[0, w] - points[0, n, 0]))
                    down = rotation_matrix(rotary, float(rows[0, h] - points[0, n, 1]))
                    logits[h, w] = q_x[n, m] @ over @ k_x[w, m] + q_y[n, m] @ down @ k_y[h, m]
            share = (logits * 8**-0.5).flatten().softmax(dim=0).view(3, 5)
            heads[n, m] = torch.einsum("hw,hwd->d", share, value[:, :, m])
    expected = heads.flatten(1) @ module.out_proj.weight.double().T + module.out_proj.bias.double()
    torch.testing.assert_close(found[0].double(), expected, atol=1e-5, rtol=0)


def test_turned_in_bfloat16_with_angles_in_float32() -> None:
    rotary = RotaryPositions(32)
    features, coordinate = torch.randn(1, 2, 50, 32), torch.rand(1, 50)
    turned = rotary(features.bfloat16(), coordinate)
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned.float(), rotary(features, coordinate), atol=0.05, rtol=0)


def test_attention_with_rotary_positions_compiles_without_a_graph_break() -> None:
    module, rotary = RowColumnAttention(16, 2), RotaryPositions(8)
    points, columns, rows = torch.rand(1, 15, 2), torch.rand(1, 5), torch.rand(1, 3)

    def attend(features: Tensor) -> Tensor:
        output: Tensor = module(features, rotate=rotary.between(points, columns, rows))
        return output

    features = torch.randn(2, 3, 5, 16)
    torch.testing.assert_close(torch.compile(attend, fullgraph=True, backend="aot_eager")(features), attend(features))


def test_an_odd_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="give an even number per head, not 5"):
        RotaryPositions(5)

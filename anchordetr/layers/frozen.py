"""Frozen batch norm computed inside the convolution before it, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.func import functional_call


def fold_frozen_norms(body: nn.Module) -> nn.Module:
    """Return what computes the same as ``body`` with the body's own modules, frozen batch norm inside convolutions.

    Frozen batch norm is a product and a sum for each channel. Applied to the weights of the convolution before it, it
    costs neither a pass over the map nor a map kept for the backward pass. Maps and gradients are the body's up to
    rounding. A body without frozen batch norm, or that ``torch.fx`` cannot trace, is returned itself. The answer
    computes with the modules that the body has now: it does not see a module that is replaced later.
    """
    if not any(_is_frozen(module) for module in body.modules()):
        return body
    try:
        traced = Tracer().trace(body)
    except Exception:  # a network says in many ways that its control flow depends on values
        return body
    for node in traced.nodes:
        if feeds_norm_alone(body, node):
            before = node.args[0]
            with traced.inserting_before(node):
                modules = (traced.get_attr(before.target), traced.get_attr(node.target))
                folded = traced.call_function(convolve, (*before.args, *modules))
            replace_norm(node, body, folded)
            traced.erase_node(before)
    erase_last_stages(traced)
    return fx.GraphModule(body, traced)


def convolve(features: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Return what the norm, in eval mode, makes of the convolution's output: one convolution with other weights."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias * scale
    weights = {"weight": convolution.weight * scale[:, None, None, None], "bias": shift}
    output: Tensor = functional_call(convolution, weights, (features,))
    return output


class Tracer(fx.Tracer):
    """Takes modules without parts and batch norms as one step, timm's own kinds too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays one step of the graph."""
        return isinstance(m, nn.BatchNorm2d) or not any(m.children())


def called_module(body: nn.Module, node: Any) -> nn.Module | None:
    """Return the module that a node calls, or None."""
    return body.get_submodule(str(node.target)) if isinstance(node, fx.Node) and node.op == "call_module" else None


def feeds_norm_alone(body: nn.Module, norm: fx.Node) -> bool:
    """Whether a node is batch norm in eval mode that alone reads a convolution, which is called once."""
    before = norm.args[0] if norm.args else None
    if not _is_frozen(called_module(body, norm)) or type(called_module(body, before)) not in (nn.Conv2d, Conv2dSame):
        return False
    assert isinstance(before, fx.Node)
    calls = sum(other.target == before.target for other in before.graph.nodes)
    return len(before.users) == 1 and calls == 1


def replace_norm(norm: fx.Node, body: nn.Module, folded: fx.Node) -> None:
    """Let ``folded`` stand for a norm, which is erased; what timm keeps inside the norm follows as steps of its own."""
    last = folded
    if isinstance(called_module(body, norm), BatchNormAct2d):
        with norm.graph.inserting_before(norm):
            for step in ("drop", "act"):
                last = norm.graph.call_module(f"{norm.target}.{step}", (last,))
    norm.replace_all_uses_with(last)
    norm.graph.erase_node(norm)


def erase_last_stages(graph: fx.Graph) -> None:
    """Erase what runs after the last step that the output reads: stages whose maps nobody asked for."""
    for node in reversed(graph.nodes):
        if node.users:
            break
        if node.op != "output":
            graph.erase_node(node)


def _is_frozen(module: nn.Module | None) -> bool:
    if not isinstance(module, nn.BatchNorm2d) or type(module) not in (nn.BatchNorm2d, BatchNormAct2d):
        return False
    return not module.training and module.affine and module.track_running_stats

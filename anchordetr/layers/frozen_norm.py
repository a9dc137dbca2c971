"""Frozen batch norm computed inside the convolution before it, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from anchordetr.layers.fx_graph import GraphNetwork, follows_lone_convolution, replace_norm, trace


def fold_frozen_norms(network: nn.Module) -> GraphNetwork | None:
    """Return an equivalent graph of the network's own modules, with batch norm in eval mode inside convolutions.

    Such a norm scales and shifts each channel. Applied to the weights of the convolution before it, it costs neither a
    pass over the map nor a map kept for the backward pass, only a copy of the weights. Maps and gradients equal the
    network's up to rounding. Stages after the last map do not run, and a module that is replaced later is not seen.

    Returns:
        The graph, or None if there is no such norm, the network cannot be traced
        (:func:`~anchordetr.layers.fx_graph.trace`), or its graph holds tensors, which would not move with the network.
    """
    graph = trace(network)
    if graph is None or any(node.op == "get_attr" for node in graph.nodes):
        return None
    frozen: dict[str, nn.Module] = {}
    for norm in [node for node in graph.nodes if follows_lone_convolution(network, node)]:
        before = norm.args[0]
        pair = FrozenConvolution(network.get_submodule(before.target), network.get_submodule(norm.target))
        frozen[f"frozen_{len(frozen)}"] = pair
        with graph.inserting_before(before):
            folded = graph.call_module(f"frozen_{len(frozen) - 1}", before.args)
        replace_norm(norm, network, folded)
        graph.erase_node(before)
    if not frozen:
        return None
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    modules = {name: frozen.get(name) or network.get_submodule(name) for name in called}
    return GraphNetwork(fx.GraphModule(modules, graph))


class FrozenConvolution(nn.Module):
    """A convolution and the batch norm after it, computed as one convolution while the norm is in eval mode.

    Args:
        convolution, norm: modules that remain part of their network.
    """

    def __init__(self, convolution: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, S, H', W')."""
        convolution, norm = self.convolution, self.norm
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.training or norm.running_mean is None or norm.running_var is None:
            return nn.BatchNorm2d.forward(norm, convolution(features))
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        weights = {"weight": convolution.weight * scale[:, None, None, None], "bias": shift}
        output: Tensor = functional_call(convolution, weights, (features,))
        return output

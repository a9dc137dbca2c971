"""Frozen batch norm computed inside the convolution before it, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from anchordetr.layers.fx_graph import follows_lone_convolution, replace_norm, trace


def fold_frozen_norms(network: nn.Module) -> fx.GraphModule | None:
    """Return what computes the same with the network's own modules, batch norm in eval mode inside convolutions.

    Such a norm is a product and a sum for each channel. Applied to the weights of the convolution before it, it costs
    neither a pass over the map nor a map kept for the backward pass, only a copy of the weights. Stages after the last
    map do not run. Maps and gradients are the network's up to rounding. A module that is replaced later is not seen.
    None if there is no such norm, no graph of the network (:func:`~anchordetr.layers.fx_graph.trace`), or one that
    would hold tensors as they are now and not see them moved.
    """
    graph = trace(network)
    if graph is None or any(node.op == "get_attr" for node in graph.nodes):
        return None
    norms = [node for node in graph.nodes if follows_lone_convolution(network, node)]
    for norm in norms:
        before = norm.args[0]
        with graph.inserting_before(before):
            modules = (graph.get_attr(before.target), graph.get_attr(norm.target))
            folded = graph.call_function(convolve, (*before.args, *modules))
        replace_norm(norm, network, folded)
        graph.erase_node(before)
    return fx.GraphModule(network, graph) if norms else None


def convolve(features: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Return the convolution's output as batch norm gives it on: in eval mode by one convolution with other weights."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return nn.BatchNorm2d.forward(norm, convolution(features))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias * scale
    weights = {"weight": convolution.weight * scale[:, None, None, None], "bias": shift}
    output: Tensor = functional_call(convolution, weights, (features,))
    return output

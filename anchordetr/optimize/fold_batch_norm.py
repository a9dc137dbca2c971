"""A backbone for inference: batch norm folded into convolutions, residual sums and ReLU fused into their kernels."""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from timm.utils.model import reparameterize_model
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from anchordetr.layers.backbone import Backbone
from anchordetr.layers.fx_graph import (
    GraphNetwork,
    called_module,
    follows_lone_convolution,
    is_lone,
    replace_norm,
    trace,
)
from anchordetr.optimize.onednn_layers import FusedConvolution, LeanMaxPool

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RELUS = (F.relu, torch.relu)


class FoldedBody(nn.Module):
    """The body of a backbone, fused for inference; its maps equal the body's up to rounding.

    Args:
        body: see :class:`~anchordetr.layers.backbone.Backbone`; it is copied. A body that ``torch.fx`` cannot trace
            is not fused, only cast.
        dtype: of the weights, of the computation and of the maps.
    """

    def __init__(self, body: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.channels, self.strides = body.channels, body.strides
        self.mean, self.std = body.mean, body.std
        self.dtype = dtype
        merged = reparameterize_model(copy.deepcopy(body).eval(), inplace=True)
        self.network = fold(merged).requires_grad_(False).to(dtype)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, C, H', W') per level."""
        maps: list[Tensor] = self.network(pixels.to(self.dtype, memory_format=torch.channels_last))
        return maps


def fold_backbone(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """Return a copy of a backbone in eval mode, fused for inference."""
    return Backbone(FoldedBody(backbone.body, dtype)).eval()


def fold(network: nn.Module) -> nn.Module:
    """Return an equivalent of a network in eval mode, folded and fused where possible; the given one is modified."""
    graph = trace(network)
    if graph is None:
        return network
    traced = fx.GraphModule(network, graph)
    _remove_identities(traced)
    _fold_batch_norms(traced)
    _remove_identities(traced)
    _fuse_convolutions(traced)
    _replace_max_pools(traced)
    traced.graph.lint()
    return GraphNetwork(fx.GraphModule(traced, traced.graph))


def _remove_identities(traced: fx.GraphModule) -> None:
    for node in traced.graph.nodes:
        if isinstance(called_module(traced, node), (nn.Identity, nn.Dropout)):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)


def _fold_batch_norms(traced: fx.GraphModule) -> None:
    for node in traced.graph.nodes:
        if follows_lone_convolution(traced, node):
            before, norm = node.args[0], traced.get_submodule(node.target)
            assert isinstance(norm, nn.BatchNorm2d)
            traced.set_submodule(before.target, fuse_conv_bn_eval(_convolution(traced, before), norm))
            replace_norm(node, traced, before)


def _is_lone_convolution(traced: fx.GraphModule, node: Any) -> bool:
    """Whether a node is a plain ``nn.Conv2d`` with numeric zero padding that is called once and has one user."""
    convolution = called_module(traced, node)
    if type(convolution) is not nn.Conv2d or isinstance(convolution.padding, str):
        return False
    return convolution.padding_mode == "zeros" and is_lone(node)


def _fuse_convolutions(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        if _is_relu(traced, node):
            _fuse_before(traced, node)
    for node in traced.graph.nodes:
        if _is_lone_convolution(traced, node):
            traced.set_submodule(node.target, FusedConvolution(_convolution(traced, node)))


def _replace_max_pools(traced: fx.GraphModule) -> None:
    for node in traced.graph.nodes:
        pool = called_module(traced, node)
        if type(pool) is not nn.MaxPool2d or pool.ceil_mode or pool.return_indices or pool.dilation != 1:
            continue
        match pool.kernel_size, pool.stride, pool.padding:
            case int(size), int(stride), int(padding) if size == 2 * padding + 1:
                traced.set_submodule(node.target, LeanMaxPool(size, stride))


def _is_relu(traced: fx.GraphModule, node: Any) -> bool:
    return isinstance(called_module(traced, node), nn.ReLU) or (node.op == "call_function" and node.target in _RELUS)


def _fuse_before(traced: fx.GraphModule, relu: Any) -> None:
    """Fuse ``relu(conv(x))`` or ``relu(conv(x) + shortcut)`` into one module."""
    before = relu.args[0]
    if _is_lone_convolution(traced, before):
        _replace(traced, [relu, before], before.args)
    elif before.op == "call_function" and before.target in _ADDITIONS and len(before.users) == 1:
        for convolution, shortcut in (before.args, before.args[::-1]):
            if _is_lone_convolution(traced, convolution) and _may_be_overwritten(traced, shortcut, convolution, before):
                _replace(traced, [relu, before, convolution], (*convolution.args, shortcut))
                break


def _may_be_overwritten(traced: fx.GraphModule, shortcut: Any, convolution: Any, addition: Any) -> bool:
    """Whether ``shortcut`` is another convolution's output, not read by ``convolution`` nor after ``addition``."""
    if not isinstance(called_module(traced, shortcut), (FusedConvolution, nn.Conv2d)):
        return False
    order = {node: position for position, node in enumerate(traced.graph.nodes)}
    return convolution not in shortcut.users and all(order[user] <= order[addition] for user in shortcut.users)


def _replace(traced: fx.GraphModule, chain: list[Any], arguments: tuple[Any, ...]) -> None:
    """Replace a chain of nodes, from ReLU back to a convolution, by one fused module."""
    relu, convolution = chain[0], chain[-1]
    traced.set_submodule(convolution.target, FusedConvolution(_convolution(traced, convolution), relu=True))
    with traced.graph.inserting_before(relu):
        fused = traced.graph.call_module(convolution.target, arguments)
    relu.replace_all_uses_with(fused)
    for node in chain:
        traced.graph.erase_node(node)


def _convolution(traced: fx.GraphModule, node: Any) -> nn.Conv2d:
    convolution = called_module(traced, node)
    assert isinstance(convolution, nn.Conv2d)
    return convolution

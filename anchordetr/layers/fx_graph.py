"""torch.fx graphs of networks, in which batch norm in eval mode can be folded into the convolution before it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, fx, nn

_OPERATORS_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)


def trace(network: nn.Module) -> fx.Graph | None:
    """Return the graph of a network up to its last output map, or None where a graph cannot replace the network.

    Modules without children and batch norms, timm's own kinds too, are one node each. Networks with hooks or gradient
    checkpointing have no graph (:func:`runs_by_modules`), nor has one whose control flow depends on values.

    The network must not run meanwhile; other networks may, in any thread.
    """
    if runs_by_modules(network):
        return None
    try:
        graph = _Tracer().record(network)
    except Exception:  # control flow that depends on values raises errors of many types
        return None
    _erase_last_stages(graph, network)
    return graph


def runs_by_modules(network: nn.Module) -> bool:
    """Whether hooks or gradient checkpointing require calls of the modules, which a graph would bypass."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or getattr(module, "grad_checkpointing", False)
        for module in network.modules()
    )


def called_module(network: nn.Module, node: Any) -> nn.Module | None:
    """Return the module that a node calls, or None."""
    is_call = isinstance(node, fx.Node) and node.op == "call_module"
    return network.get_submodule(str(node.target)) if is_call else None


def follows_lone_convolution(network: nn.Module, norm: fx.Node) -> bool:
    """Whether a node is batch norm in eval mode, and the only user of a convolution that is called once."""
    before = norm.args[0] if norm.args else None
    if not _is_fixed_norm(called_module(network, norm)):
        return False
    if type(called_module(network, before)) not in (nn.Conv2d, Conv2dSame):
        return False
    assert isinstance(before, fx.Node)
    return is_lone(before) and len(before.args) == 1 and not before.kwargs


def is_lone(node: fx.Node) -> bool:
    """Whether a node has one user, and no other node calls the same module or function."""
    return len(node.users) == 1 and sum(other.target == node.target for other in node.graph.nodes) == 1


def replace_norm(norm: fx.Node, network: nn.Module, folded: fx.Node) -> None:
    """Replace a norm by ``folded`` and erase it; dropout and activation inside timm's norms become nodes after it."""
    last = folded
    if isinstance(called_module(network, norm), BatchNormAct2d):
        with norm.graph.inserting_before(norm):
            for step in ("drop", "act"):
                last = norm.graph.call_module(f"{norm.target}.{step}", (last,))
    norm.replace_all_uses_with(last)
    norm.graph.erase_node(norm)


class GraphNetwork(nn.Module):
    """A network that runs the code of a graph.

    It takes the place of ``fx.GraphModule``, which is traced again whenever it is unpickled.

    Args:
        traced: the graph with the modules and tensors that it uses, which are moved: a graph and its nodes refer to
            each other, and what they hold stays in memory until Python looks for such cycles.
    """

    _run: Callable[[nn.Module, Tensor], Any]

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__()
        self._modules, self._parameters, self._buffers = traced._modules, traced._parameters, traced._buffers
        traced._modules, traced._parameters, traced._buffers = {}, {}, {}
        code = traced.graph.python_code("self")
        self.source = code.src
        self.names = {
            name: value.__name__ if isinstance(value, ModuleType) else value for name, value in code.globals.items()
        }
        self._compile()

    def forward(self, pixels: Tensor) -> Any:
        """(B, 3, H, W) -> the maps of the network that was traced."""
        return self._run(self, pixels)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compile()

    def _compile(self) -> None:
        names: dict[str, Any] = {
            name: import_module(value) if isinstance(value, str) else value for name, value in self.names.items()
        }
        exec(self.source, names)
        self._run = names["forward"]


class _Tracer(fx.Tracer):
    """Records one network; ``fx.Tracer.trace`` patches ``nn.Module``, and so every network of the process."""

    def record(self, network: nn.Module) -> fx.Graph:
        """Return the graph of a network that takes one argument."""
        self.root, self.graph, self.tensor_attrs = network, fx.Graph(), {}
        self.submodule_paths = {module: name for name, module in network.named_modules()}
        pixels = self.create_proxy("placeholder", "pixels", (), {})
        with self._recording():
            maps = network.forward(pixels)
            self.create_node("output", "output", (self.create_arg(maps),), {})
        return self.graph

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Replace the classes of the network's modules by subclasses, whose calls and parameters are recorded."""
        parameters: dict[str, fx.Proxy] = {}

        def subclass(kind: type[nn.Module]) -> type[nn.Module]:
            def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
                return self.call_module(module, module.forward, args, kwargs)

            def read(module: nn.Module, name: str) -> Any:
                return self.getattr(name, kind.__getattr__(module, name), parameters)

            return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__call__": call, "__getattr__": read})

        kinds = {module: type(module) for module in self.root.modules()}
        subclasses = {kind: subclass(kind) for kind in set(kinds.values())}
        try:
            for module, kind in kinds.items():
                module.__class__ = subclasses[kind]
            yield
        finally:
            for module, kind in kinds.items():
                module.__class__ = kind
            self.root, self.submodule_paths, self.tensor_attrs = nn.Module(), None, {}  # classes keep the tracer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_step = isinstance(m, nn.BatchNorm2d) or not any(m.children())
        return is_step or super().is_leaf_module(m, module_qualified_name)


def _is_fixed_norm(module: nn.Module | None) -> bool:
    if not isinstance(module, nn.BatchNorm2d) or type(module) not in (nn.BatchNorm2d, BatchNormAct2d):
        return False
    return not module.training and module.affine and module.track_running_stats


def _erase_last_stages(graph: fx.Graph, network: nn.Module) -> None:
    """Erase the nodes after the last one that the output reads, unless they change in place what it reads."""
    for node in reversed(graph.nodes):
        if node.users or node.op == "placeholder":
            break
        if node.op != "output":
            is_read_elsewhere = any(len(read.users) > 1 for read in node.all_input_nodes)
            if is_read_elsewhere and _is_in_place(network, node):
                break
            graph.erase_node(node)


def _is_in_place(network: nn.Module, node: fx.Node) -> bool:
    name = getattr(node.target, "__name__", str(node.target))
    is_marked = bool(node.kwargs.get("inplace")) or bool(getattr(called_module(network, node), "inplace", False))
    return is_marked or node.target in _OPERATORS_IN_PLACE or (name.endswith("_") and not name.endswith("__"))

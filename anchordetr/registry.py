"""Registries of named, pluggable components.

A component is a class or function that the configuration refers to by name. Components of the library and of users are
registered with the same decorator, in a script or in an installed package that lists its module under the entry-point
group ``anchordetr.plugins``::

    from anchordetr.registry import ATTENTIONS

    @ATTENTIONS.register("my_attention")
    class MyAttention(torch.nn.Module): ...

    # pyproject.toml of the plug-in
    [project.entry-points."anchordetr.plugins"]
    my_plugin = "my_package.my_module"
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from anchordetr.errors import InputError, UsageError, by_user, closest_match, limited, reason

Component = TypeVar("Component", bound=Callable[..., Any])


class Registry:
    """A mapping of names to components of one kind.

    Args:
        kind: the kind of component, for messages ("attention").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._components: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Component], Component]:
        """Return a decorator that registers a component under ``name``.

        Raises:
            UsageError: another component already has this name.
        """

        def decorate(component: Component) -> Component:
            known = self._components.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (
                component.__module__,
                component.__qualname__,
            ):
                raise UsageError(f"The {self.kind} '{name}' is already registered; choose another name.")
            self._components[name] = component
            return component

        return decorate

    def names(self) -> list[str]:
        """Return the registered names, including those of plug-ins."""
        load_plugins()
        return sorted(self._components)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """Return the component registered under ``name``.

        Raises:
            UsageError: no component has this name.
        """
        if name not in self._components:
            load_plugins()
        if name not in self._components:
            raise UsageError(
                f"Unknown {self.kind} '{limited(name)}'.{closest_match(name, self._components)} {own_parts()}"
            )
        return self._components[name]


def own_parts() -> str:
    """Return the sentence that says how parts of users are found."""
    return by_user(
        "Parts of your own are found in the file that --plugin names.",
        "Import the module that registers a part of your own first.",
    )


ATTENTIONS = Registry("attention")
ANCHORS = Registry("anchors")
QUERY_SOURCES = Registry("query source")
POSITION_ENCODERS = Registry("position encoder")
BACKBONES = Registry("backbone")
DATA_LAYOUTS = Registry("data layout")


@cache
def load_plugins() -> None:
    """Import every module listed under the entry-point group ``anchordetr.plugins``, once."""
    for entry_point in entry_points(group="anchordetr.plugins"):
        entry_point.load()


def import_file(file: Path) -> None:
    """Import a Python file that registers components, under its own name, so that worker processes find it too.

    Raises:
        InputError: it is missing or no Python file, another module has its name, or its code raises an error.
    """
    if not file.exists():
        raise InputError(f"The plug-in {file} does not exist; check its path.")
    if file.suffix != ".py" or not file.is_file():
        raise InputError(f"The plug-in {file} is no Python file; name one that ends in .py.")
    if (folder := str(file.resolve().parent)) not in sys.path:
        sys.path.append(folder)
    try:
        found = import_module(file.stem).__file__
    except Exception as error:  # whatever the code of the file raises
        raise InputError(f"The plug-in {file} cannot be imported: {type(error).__name__}: {reason(error)}.") from error
    if found is None or Path(found).resolve() != file.resolve():
        raise InputError(f"The plug-in {file} has the name of the module {found}; give the file another name.")

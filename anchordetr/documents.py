"""JSON and YAML that somebody else wrote: bounded in size, depth and expansion; every failure names the source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from anchordetr.errors import InputError
from anchordetr.files import MEBIBYTE, read_text

YAML_LIMIT = 4 * MEBIBYTE
_MOST_NODES = 1_000_000  # counted as often as aliases repeat them


class TextLoader(yaml.SafeLoader):
    """Reads every plain scalar as the text that was written: ``no``, ``1.10`` and ``02146`` stay as they are."""


TextLoader.yaml_implicit_resolvers = {}


def read_json(file: Path, limit: int) -> Any:
    """Return the content of a JSON file of at most ``limit`` bytes.

    Raises:
        InputError: the file cannot be read, or is not valid JSON; the message names the position.
    """
    return parse_json(read_text(file, limit), str(file))


def parse_json(text: str, source: str) -> Any:
    """Return the content of a JSON text.

    Raises:
        InputError: the text is not valid JSON, nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{source} is not valid JSON: it is nested too deeply.") from None
    except ValueError as error:  # also of numbers with thousands of digits
        raise InputError(f"{source} is not valid JSON: {error}.") from error


def read_yaml(file: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return the content of a YAML file of at most 4 MiB.

    Args:
        file: in YAML or JSON.
        loader: how plain scalars are read; :class:`TextLoader` leaves them as text.

    Raises:
        InputError: the file cannot be read, or :func:`parse_yaml` refuses it.
    """
    return parse_yaml(read_text(file, YAML_LIMIT), str(file), loader)


def parse_yaml(text: str, source: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return the content of a YAML text.

    Raises:
        InputError: the text is not valid YAML, nested too deeply, contains itself, or its aliases expand to more than
            a million values.
    """
    try:
        reader = loader(text)
        node = reader.get_single_node()
        size = 0 if node is None else _expanded(node, {})
        if size <= _MOST_NODES:
            return None if node is None else reader.construct_document(node)
    except RecursionError:
        raise InputError(f"{source} is not valid YAML: it is nested too deeply, or contains itself.") from None
    except Exception as error:  # constructors of dates and tags raise whatever Python raises
        raise InputError(f"{source} is not valid YAML: {_described(error)}.") from error
    raise InputError(f"{source} is not read: its aliases (&, *) expand to {size:,} values; write them without aliases.")


def _described(error: Exception) -> str:
    """Return what is wrong, and where, in one line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem and mark:
        return f"{problem}, line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split())


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of nodes below a node, each alias counted in full; a node that contains itself recurses."""
    if id(node) in known:
        return known[id(node)]
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    known[id(node)] = 1 + sum(_expanded(child, known) for child in children)
    return known[id(node)]

"""Configurations as text: files in YAML or JSON, and ``section.key=value`` on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from anchordetr.config.renamed import upgrade
from anchordetr.config.schema import Config, full_key
from anchordetr.documents import TextLoader, parse_yaml, read_yaml
from anchordetr.errors import InputError, UsageError

_NULLS = ("", "null", "~")


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line."""


_Dumper.add_representer(
    list, lambda dumper, values: dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)
)


def to_yaml(values: Any) -> str:
    """Return a configuration's values as YAML, in their order, to be read by :func:`read_config_file`."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file of changes to a preset; a section without keys changes nothing.

    Values are of the type of their key: ``no`` and ``1.10`` are text where the key is text. Of a saved model's
    ``config.json`` the sections are read, with the names of today.

    Raises:
        InputError: the file cannot be read or does not hold a mapping in YAML or JSON.
    """
    sections = read_yaml(path, TextLoader)
    if not isinstance(sections, dict):
        raise InputError(f"The configuration file {path} must hold sections such as 'model:' with keys below them.")
    if "format_version" in sections:
        sections = upgrade({name: sections[name] for name in Config.model_fields if name in sections})
    return {
        name: {key: typed(f"{name}.{key}", value) for key, value in keys.items()}
        if isinstance(keys, dict)
        else typed(full_key(name), keys)
        for name, keys in sections.items()
        if keys not in _NULLS
    }


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn ``["train.lr=1e-3", ...]`` into ``{"train.lr": 0.001}``; values are of the type of their key.

    Text is taken as written, and lists are read as YAML.

    Raises:
        UsageError: an assignment has no ``=``, or a list is not valid YAML.
    """
    changes = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise UsageError(
                f"--set {assignment} has no '='; write it as section.key=value, for example train.lr=1e-4."
            )
        key = full_key(key.strip())
        changes[key] = _parse_list(assignment, text) if get_origin(_type_of(key)) is tuple else typed(key, text)
    return changes


def typed(key: str, value: Any) -> Any:
    """Return text as a value of the type of a ``section.key``; other values, and text that does not fit, as they are.

    The configuration refuses what does not fit.
    """
    expected = _type_of(key)
    if expected is None or not isinstance(value, str):
        return value
    if NoneType in get_args(expected) and value.strip().lower() in _NULLS:
        return None
    try:
        return TypeAdapter(expected).validate_python(value)
    except ValidationError:
        return value


def _type_of(key: str) -> Any:
    """Return the annotation of a ``section.key``, or None if there is no such key."""
    section, _, name = key.partition(".")
    if section not in Config.model_fields:
        return None
    keys: Any = Config.model_fields[section].annotation
    return keys.model_fields[name].annotation if name in keys.model_fields else None


def _parse_list(assignment: str, text: str) -> Any:
    try:
        return parse_yaml(text, assignment, TextLoader)
    except InputError as error:
        raise UsageError(f"--set {assignment} is not a list in YAML; write it as key=[a, b].") from error

"""Configurations as text: files in YAML or JSON, and ``section.key=value`` on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from anchordetr.errors import InputError, UsageError


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

    Raises:
        InputError: the file is missing or does not hold a mapping in YAML or JSON.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"The configuration file {path} does not exist; check the path.") from None
    except OSError as error:
        raise InputError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The configuration file {path} is not valid YAML or JSON: {_one_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"The configuration file {path} must hold sections such as 'model:' with keys below them.")
    return {section: content for section, content in values.items() if content is not None}


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn ``["train.lr=1e-3", ...]`` into ``{"train.lr": 0.001}``; values are read as JSON if possible, else as YAML.

    Raises:
        UsageError: an assignment has no ``=``, or its value is not valid YAML.
    """
    changes = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise UsageError(
                f"--set {assignment} has no '='; write it as section.key=value, for example train.lr=1e-4."
            )
        try:
            changes[key.strip()] = _parse_value(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {assignment} has a value that is not valid YAML: {_one_line(error)}") from error
    return changes


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return yaml.safe_load(text)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

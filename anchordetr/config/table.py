"""Tables of all settings, made from the sections of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anchordetr.config.schema import Config
from anchordetr.config.text import to_yaml

SETTINGS_PAGE = "docs/settings.md"
REWRITE_COMMAND = f"anchordetr config --markdown > {SETTINGS_PAGE}"
_INTRODUCTION = f"""# Settings

<!-- `{REWRITE_COMMAND}` writes this page; descriptions are in anchordetr/config/. -->

`--set section.key=value` changes one, `--config FILE` several, in YAML or JSON; in Python it is
`Detector(name, settings={{"section.key": value}})`, `detector.train(data, key=value)` or
`preset(name).updated({{"section.key": value}})`. No two sections have a key in common: a key alone names it too.

`anchordetr config MODEL` prints the settings of a preset as a file for `--config`, and `anchordetr train
--help-settings` prints these tables. A value is read as what its key holds: `no` and `1.10` stay text where the key is
text; infinity and NaN are refused. Defaults are those of `anchordetr_r50_c5`: the paper's network and recipe. What goes
beyond the paper is explained in [beyond_the_paper.md](beyond_the_paper.md).
"""
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "maximum": "≤", "exclusiveMaximum": "<"}


@dataclass(frozen=True)
class Setting:
    """One key of the configuration.

    Attributes:
        key: ``section.key``.
        values: the values it accepts, in words.
        default: the default value as YAML.
        description: what it means; names of keys and values are in backticks.
    """

    key: str
    values: str
    default: str
    description: str


def section_titles() -> dict[str, str]:
    """Return the name of each section of the configuration, with a sentence about it."""
    return {name: (field.annotation.__doc__ or "") for name, field in Config.model_fields.items()}


def settings_table(section: str) -> list[Setting]:
    """Return the keys of a section (``model``, ``data``, ``loss`` or ``train``) in their order."""
    model: Any = Config.model_fields[section].annotation
    return [
        Setting(
            key=f"{section}.{name}",
            values=_describe_values(schema),
            default=to_yaml(schema["default"]).removesuffix("\n").removesuffix("\n..."),
            description=schema["description"],
        )
        for name, schema in model.model_json_schema()["properties"].items()
    ]


def settings_page() -> str:
    """Return ``docs/settings.md``: every key of the configuration in Markdown."""
    return _INTRODUCTION + "".join(_page_section(name, title) for name, title in section_titles().items())


def _page_section(name: str, title: str) -> str:
    rows = [
        f"| `{setting.key}` | {setting.values} | `{setting.default}` | {setting.description} |\n"
        for setting in settings_table(name)
    ]
    return f"\n## `{name}`\n\n{title}\n\n| key | values | default | meaning |\n|---|---|---|---|\n{''.join(rows)}"


def _describe_values(schema: dict[str, Any]) -> str:
    """Return the values that a key accepts, from its JSON schema: ``integer > 0``, or ``c3``, ``c4`` or ``null``."""
    if "anyOf" in schema:
        return ", ".join(_describe_values(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    match schema["type"]:
        case "array":
            examples = {"examples": schema["examples"]} if "examples" in schema else {}
            kind = "non-empty list" if schema.get("minItems") else "list"
            return f"{kind} of {_describe_values(schema['items'] | examples)}"
        case "string" if "examples" in schema:
            return ", ".join(f"`{name}`" for name in schema["examples"]) + ", ..."
        case "string":
            return "path" if schema.get("format") == "path" else "text"
        case "boolean":
            return "`true`, `false`"
        case "null":
            return "`null`"
        case kind:
            bounds = [f"{sign} {_number(schema[name])}" for name, sign in _BOUNDS.items() if name in schema]
            return f"{kind} {' and '.join(bounds)}".strip()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"

"""The keywords of ``Detector.train`` as Python source: ``python tests/typed_settings.py`` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import anchordetr
from anchordetr.config import Config

FILE = Path(anchordetr.__file__).parent / "config" / "keywords.py"
_HEADER = (
    '"""The keys of the configuration as keyword arguments, for type checkers; tests/typed_settings.py writes it."""'
)


def source() -> str:
    """Return the source of ``anchordetr/config/keywords.py``: one field for each key of each section."""
    lines = []
    for name, field in Config.model_fields.items():
        section = field.annotation
        assert section is not None
        lines.append(f"    # {name}")
        lines += [f"    {key}: {_shown(value.annotation)}" for key, value in section.model_fields.items()]
    return f"""{_HEADER}

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class Settings(TypedDict, total=False):
    \"\"\"Every key of the configuration by its name alone; docs/settings.md explains them.\"\"\"

{chr(10).join(lines)}
"""


def _shown(annotation: Any) -> str:
    """Return a key's type as source; any sequence is accepted where a tuple is stored, and text where a path is."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shown(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(json.dumps(value) for value in arguments)}]"
    if origin in (Union, UnionType):
        return " | ".join(map(_shown, arguments))
    if origin is not None:
        is_open = arguments[-1] is Ellipsis
        parts = ", ".join(map(_shown, arguments[:-1] if is_open else arguments))
        return f"Sequence[{parts}]" if is_open else f"{origin.__name__}[{parts}]"
    return {NoneType: "None", Path: "str | Path"}.get(annotation, annotation.__name__)


if __name__ == "__main__":
    FILE.write_text(source(), encoding="utf-8")

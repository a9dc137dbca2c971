"""The base class of the sections of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from anchordetr.config.renamed import explain_renamed
from anchordetr.config.unknown import explain_unknown
from anchordetr.errors import UsageError, closest_match, limited


class Section(BaseModel):
    """Keys that belong together. Instances are frozen; unknown keys, infinity and NaN are refused.

    Attributes:
        prefix: prepended to the keys of this section in messages, such as ``model.``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    prefix: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            key = f"{cls.prefix}{name}"
            renamed = explain_renamed(key, value)
            if renamed is not None:
                raise UsageError(renamed)
            if name not in cls.model_fields:
                if not cls.prefix and isinstance(value, Mapping):
                    known = closest_match(name, cls.model_fields)
                    raise UsageError(f"Unknown configuration section '{limited(name)}'.{known}")
                raise UsageError(explain_unknown(key, full_keys()))
        return values


def full_keys() -> dict[str, str]:
    """Return the ``section.key`` of the name of each key; no two sections have a key of one name."""
    sections = [section for section in Section.__subclasses__() if section.prefix]
    return {name: f"{section.prefix}{name}" for section in sections for name in section.model_fields}

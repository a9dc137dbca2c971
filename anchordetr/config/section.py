"""The base class of the sections of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from anchordetr.config.renamed import explain_renamed
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
                known = [f"{cls.prefix}{field}" for field in cls.model_fields]
                kind = "key" if cls.prefix else "section"
                raise UsageError(f"Unknown configuration {kind} '{limited(key)}'.{closest_match(key, known)}")
        return values

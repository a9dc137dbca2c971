"""The whole configuration of a run: its sections, how it is changed, checked and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError, model_validator

from anchordetr.config.model import ModelConfig
from anchordetr.config.resolution import RESOLUTION, with_sizes, without_sizes
from anchordetr.config.section import Section, full_keys
from anchordetr.config.training import DataConfig, LossConfig, TrainConfig
from anchordetr.config.unknown import explain_unknown
from anchordetr.errors import UsageError


class Config(Section):
    """The whole configuration of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check_anchors(self) -> Self:
        if self.train.anchors_from_data and (self.model.queries != "anchors" or self.model.anchors == "grid"):
            raise UsageError(
                "train.anchors_from_data moves learned anchors; set model.queries=anchors and model.anchors=learned."
            )
        return self

    def updated(self, changes: Mapping[str, Any]) -> Config:
        """Return a copy with other values.

        Args:
            changes: ``{"section.key": value}``, ``{"section": {"key": value}}`` or ``{"key": value}``; the sections
                have no key in common. ``data.resolution`` also sets the three sizes (docs/settings.md).

        Raises:
            UsageError: a key does not exist, a value does not fit, or a size contradicts the resolution.
        """
        values = self.model_dump()
        keyed = {full_key(key): value for key, value in flatten(changes).items()}
        for key, value in with_sizes(keyed, self.data).items():
            section, separator, name = key.partition(".")
            if not separator:
                raise UsageError(explain_unknown(key, full_keys()))
            values.setdefault(section, {})[name] = value
        return parse_config(values)


def full_key(name: str) -> str:
    """Return the ``section.key`` of a key that is named alone; other names as they are."""
    return full_keys().get(name, name)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return one set of changes for :meth:`Config.updated`, in which later layers override earlier ones.

    A resolution overrides the sizes of the layers before it.
    """
    changes: dict[str, Any] = {}
    for layer in layers:
        keyed = {full_key(key): value for key, value in flatten(layer).items()}
        if keyed.get(RESOLUTION) is not None:
            changes = without_sizes(changes, keyed[RESOLUTION])
        changes |= keyed
    return changes


def parse_config(values: Mapping[str, Any]) -> Config:
    """Validate a whole configuration.

    Raises:
        UsageError: names the first key that does not exist or has a value that does not fit.
    """
    try:
        return Config.model_validate(values)
    except UnicodeEncodeError as error:  # half of a surrogate pair in a key or a text
        raise UsageError(f"The configuration has a text that is not valid Unicode: {error.object[:100]!a}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":
            raise UsageError(str(first["ctx"]["error"])) from error
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"Configuration key '{key}': {first['msg']} (got {_shown(first['input'])}).") from error


def _shown(value: Any) -> str:
    """Return a value for a message, at most 100 characters long."""
    try:
        text = repr(value)
    except Exception:  # of a number with thousands of digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}..."


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, with the old and the new value (None where there is none)."""
    old, new = flatten(before), flatten(now)
    return {key: (old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)}


def flatten(changes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat

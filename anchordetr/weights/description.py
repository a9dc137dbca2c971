"""The description of a saved model: the content of ``config.json``, and what is made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from torch import Tensor

from anchordetr.config import Config, parse_config
from anchordetr.config.renamed import upgrade
from anchordetr.errors import InputError, UsageError, limited
from anchordetr.weights.format_one import upgrade_weights

FORMAT_VERSION = 4
VERSIONS_WITH_DIGESTS = (3, FORMAT_VERSION)
ARCHITECTURE = "AnchorDETR"
EDITABLE = (*Config.model_fields, "class_names", "category_ids")
"""The entries that a model is built from."""
THRESHOLDS = ("threshold", "class_thresholds")
"""Optional entries, since earlier versions do not write them."""

_READABLE = (1, 2, 3, FORMAT_VERSION)
_MOST_CATEGORY_ID = 2**63
_LARGEST_METRIC = 1e9


@dataclass(frozen=True)
class SavedModel:
    """A detector's configuration, classes and weights, as stored in files.

    Attributes:
        config: the configuration to build it from.
        class_names, category_ids: name and the data set's own id of each row of the class head.
        weights: the state dict, on the CPU.
        origin: source, data, command, metrics and versions, as far as known.
        unused_classes: ``weight`` (U, C) and ``bias`` (U) of rows of the original's class head whose ids have no
            category, kept so that the conversion back is exact; empty if there are none.
        threshold: the lowest score of what :meth:`~anchordetr.detector.Detector.predict` returns.
        class_thresholds: the scores with the highest F1 of single classes, by name, as far as known.
    """

    config: Config
    class_names: list[str]
    category_ids: list[int]
    weights: dict[str, Tensor]
    origin: dict[str, Any] = field(default_factory=dict)
    unused_classes: dict[str, Tensor] = field(default_factory=dict)
    threshold: float = 0.5
    class_thresholds: dict[str, float] = field(default_factory=dict)

    def with_class_names(self, names: list[str]) -> SavedModel:
        """Return the model with other class names.

        Raises:
            UsageError: there are more or fewer names than classes.
        """
        if len(names) != len(self.class_names):
            raise UsageError(f"{len(names)} class names were given for {len(self.class_names)} classes.")
        new_name = dict(zip(self.class_names, names, strict=True))
        thresholds = {new_name[name]: value for name, value in self.class_thresholds.items()}
        return replace(self, class_names=names, class_thresholds=thresholds)


def describe(saved: SavedModel) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    values = {
        "format_version": FORMAT_VERSION,
        "anchordetr_version": version("anchordetr"),
        "architecture": ARCHITECTURE,
        "class_names": saved.class_names,
        "category_ids": saved.category_ids,
        "threshold": saved.threshold,
        "class_thresholds": saved.class_thresholds,
        **saved.config.model_dump(mode="json"),
        "origin": saved.origin,
    }
    return values | {"save_id": hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]}


def understand(
    values: Mapping[str, Any], source: str, weights: dict[str, Tensor], unused_classes: dict[str, Tensor] | None = None
) -> SavedModel:
    """Return the model of a description, as returned by :func:`describe`, and its weights.

    Raises:
        InputError: a newer version or another library wrote it, or a value is missing; the message names ``source``.
    """
    if (
        not isinstance(values, Mapping)
        or values.get("architecture", ARCHITECTURE) != ARCHITECTURE
        or "model" not in values
    ):
        raise InputError(
            f"{source} describes {limited(_architecture(values))}, not {ARCHITECTURE}; anchordetr cannot read it."
        )
    written = values.get("format_version")
    if written not in _READABLE:
        raise InputError(
            f"{source} has format version {limited(written)}, written by anchordetr "
            f"{limited(values.get('anchordetr_version'))}; this is anchordetr {version('anchordetr')}, which reads up "
            f"to version {FORMAT_VERSION}. Update anchordetr."
        )
    if written != FORMAT_VERSION:
        values = upgrade(values)
    if written == 1:
        weights = upgrade_weights(weights)
    if missing := [name for name in EDITABLE if name not in values]:
        raise InputError(f"{source} is damaged: it has no '{missing[0]}'.")
    try:
        config = parse_config({name: values[name] for name in Config.model_fields})
    except UsageError as error:
        raise InputError(f"{source} is damaged: {error}") from error
    count, held = config.model.least_parameters, sum(tensor.numel() for tensor in weights.values())
    if count > held:
        raise InputError(f"{source} describes {count:,} parameters or more, but its weights are {held:,}.")
    names, ids = read_classes(values, config.model.num_classes, source)
    origin = values.get("origin", {})
    if not _is_origin(origin):
        raise InputError(f"{source} is damaged: its 'origin' is not as anchordetr writes it; remove this entry.")
    config = config.model_copy(update={"model": config.model.without_pretraining()})
    return SavedModel(
        config, names, ids, weights, origin, unused_classes or {}, *_read_thresholds(values, names, source)
    )


def _read_thresholds(values: Mapping[str, Any], names: list[str], source: str) -> tuple[float, dict[str, float]]:
    """Return the thresholds of a description; those of classes that it no longer has are left out.

    Raises:
        InputError: one of them is not a number from 0 to 1.
    """
    threshold, by_class = values.get("threshold", 0.5), values.get("class_thresholds", {})
    numbers: list[Any] = [threshold, *by_class.values()] if isinstance(by_class, Mapping) else [None]
    if not all(type(number) in (int, float) and 0 <= number <= 1 for number in numbers):
        raise InputError(f"{source} is damaged: its threshold and class_thresholds are not all numbers from 0 to 1.")
    return threshold, {name: number for name, number in by_class.items() if name in names}


def read_classes(values: Mapping[str, Any], count: int, source: str) -> tuple[list[str], list[int]]:
    """Return the class names and category ids of a description.

    Raises:
        InputError: they are not ``count`` texts and whole numbers.
    """
    names, ids = values["class_names"], values["category_ids"]
    if not (isinstance(names, list) and isinstance(ids, list) and len(names) == len(ids) == count):
        raise InputError(f"{source} is damaged: it needs {count} class_names and as many category_ids.")
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{source} is damaged: its class_names are not all texts.")
    if not all(type(number) is int and abs(number) < _MOST_CATEGORY_ID for number in ids):
        raise InputError(f"{source} is damaged: its category_ids are not all whole numbers of 64 bits.")
    return names, ids


def _is_origin(value: Any) -> bool:
    """Return whether a value can be the ``origin`` of a model: a model card can be written of it."""
    if not isinstance(value, dict):
        return False
    metrics, versions = value.get("metrics", {}), value.get("versions", {})
    if not isinstance(metrics, dict) or not isinstance(versions, dict):
        return False
    numbers = [number for name, number in metrics.items() if name not in ("per_class", "class_thresholds")]
    return all(type(number) in (int, float) and not abs(number) > _LARGEST_METRIC for number in numbers)


def _architecture(values: Any) -> str:
    if not isinstance(values, Mapping):
        return "no model"
    found = values.get("architecture") or values.get("architectures") or values.get("model_type") or "no model"
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found)

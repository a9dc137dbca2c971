"""Reading and writing of model folders: ``config.json`` and ``model.safetensors``.

The weights file is complete: its metadata contains the configuration. ``config.json`` is for reading and editing. If
the ``save_id`` of the two differs after a crash, the configuration in the weights file is used.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from anchordetr.config import differences
from anchordetr.console import say
from anchordetr.device import PRECISIONS
from anchordetr.documents import parse_json, read_json
from anchordetr.errors import InputError, UsageError, closest_match, listed
from anchordetr.files import MEBIBYTE, write_json
from anchordetr.finite import describe_non_finite, non_finite
from anchordetr.weights.checks import check_finite
from anchordetr.weights.description import (
    EDITABLE,
    THRESHOLDS,
    VERSIONS_WITH_DIGESTS,
    SavedModel,
    describe,
    understand,
)
from anchordetr.weights.folder import CONFIG_FILE, UNUSED_FILE, WEIGHTS_FILE
from anchordetr.weights.tensor_file import read_tensors, write_tensors

log = logging.getLogger("anchordetr")

_LARGE = 4096
_NAMED = 3
_CONFIG_LIMIT = 16 * MEBIBYTE


def write_model(folder: Path, saved: SavedModel, precision: str = "fp32") -> None:
    """Write a model folder; each existing file is replaced atomically.

    Weights that are not finite are written too, so that nothing is lost, with a warning: they are refused on reading.

    Args:
        folder: created if needed.
        saved: the model.
        precision: ``fp32``, or ``fp16`` or ``bf16`` for the large tensors; norms, biases and anchors, one per cent of
            the bytes, stay in float32.

    Raises:
        UsageError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"Unknown precision '{precision}'.{closest_match(precision, PRECISIONS)}")
    folder.mkdir(parents=True, exist_ok=True)
    values = describe(saved)
    weights = {name: _stored(tensor, precision) for name, tensor in saved.weights.items()}
    if names := non_finite(weights):
        if precision != "fp32" and not non_finite(saved.weights):
            raise UsageError(f"{precision} cannot hold all values: {describe_non_finite(names)}; use bf16 or fp32.")
        log.warning("%s: %s; it cannot be loaded again.", folder / WEIGHTS_FILE, describe_non_finite(names))
    if saved.unused_classes:
        write_tensors(folder / UNUSED_FILE, saved.unused_classes, {"save_id": values["save_id"]})
    write_tensors(folder / WEIGHTS_FILE, weights, {"config": json.dumps(values)})
    write_json(folder / CONFIG_FILE, values)
    if not saved.unused_classes:
        (folder / UNUSED_FILE).unlink(missing_ok=True)


def read_model(folder: Path) -> SavedModel:
    """Return the model of a model folder, with what was edited in its ``config.json``.

    Raises:
        InputError: the folder is not a model folder, a file is damaged, or a newer version wrote it.
    """
    config = folder / CONFIG_FILE
    edited = _read_config(config) if os.path.lexists(config) else None  # first: what is written later wins
    stored = _read_stored(folder)
    if edited is None or (stored.values and edited.get("save_id", stored.save_id) != stored.save_id):
        return stored.understand(stored.values, stored.file)
    saved = stored.understand(edited, config)
    if stored.is_verified:
        _report_changes(config, stored.values, edited)
    return saved


def read_weights_file(folder: Path) -> SavedModel:
    """Return the model of a model folder as it was saved; its ``config.json`` is not read.

    Raises:
        InputError: the folder has no weights file, or it is damaged, or a newer version wrote it.
    """
    stored = _read_stored(folder)
    return stored.understand(stored.values, stored.file)


@dataclass(frozen=True)
class _Stored:
    """What the weights file of a model folder holds.

    Attributes:
        file: the weights file.
        values: the description in its metadata; empty if another tool saved the tensors.
        weights, unused_classes: as of :class:`SavedModel`.
        is_verified: whether the file had digests.
    """

    file: Path
    values: dict[str, Any]
    weights: dict[str, Tensor]
    unused_classes: dict[str, Tensor]
    is_verified: bool

    @property
    def save_id(self) -> Any:
        """The id of the save."""
        return self.values.get("save_id")

    def understand(self, values: dict[str, Any], source: Path) -> SavedModel:
        """Return the model with the description ``values``, read from ``source``."""
        if not self.is_verified and (self.values or values).get("format_version") in VERSIONS_WITH_DIGESTS:
            if self.values:
                raise InputError(f"{self.file} is damaged: its digests are missing. Save or fetch it again.")
            log.warning("%s was saved by another tool, without digests: damage cannot be noticed.", self.file)
        return understand(values, str(source), self.weights, self.unused_classes)


def _read_stored(folder: Path) -> _Stored:
    """Return what the weights file of a model folder holds.

    Raises:
        InputError: it is missing or damaged.
    """
    file, unused = folder / WEIGHTS_FILE, folder / UNUSED_FILE
    if not os.path.lexists(file):
        raise InputError(f"{folder} is not a saved model: it has no {WEIGHTS_FILE}.")
    content = read_tensors(file)
    check_finite(content.tensors, str(file))
    values = parse_json(content.metadata.get("config", "{}"), f"The configuration in {file}")
    if not isinstance(values, dict):
        raise InputError(f"{file} is damaged: its configuration is no JSON object. Save or fetch it again.")
    rows: dict[str, Tensor] = {}
    if os.path.lexists(unused):
        others = read_tensors(unused)
        if content.is_verified and not others.is_verified:
            raise InputError(f"{unused} is damaged: its digests are missing. Save or fetch it again.")
        if others.metadata.get("save_id", values.get("save_id")) == values.get("save_id"):
            rows = others.tensors
        else:
            log.warning("%s belongs to another save and is not used.", unused)
    return _Stored(file, values, content.tensors, rows, content.is_verified)


def _read_config(file: Path) -> dict[str, Any]:
    advice = f"Correct it, or delete it: {WEIGHTS_FILE} holds the configuration as it was saved."
    try:
        values = read_json(file, _CONFIG_LIMIT)
    except InputError as error:
        raise InputError(f"{error} {advice}") from error
    if not isinstance(values, dict):
        raise InputError(f"{file} is damaged: it holds no JSON object. {advice}")
    return values


def _report_changes(file: Path, stored: Mapping[str, Any], edited: Mapping[str, Any]) -> None:
    """Name what was edited in ``config.json``, since a damaged value looks the same."""
    before, now = ({key: values.get(key) for key in (*EDITABLE, *THRESHOLDS, "origin")} for values in (stored, edited))
    if changes := list(differences(before, now)):
        say(f"{file} was edited after it was saved ({listed(changes, _NAMED)}); its values are used.")


def _stored(tensor: Tensor, precision: str) -> Tensor:
    dtype = None if precision == "fp32" else PRECISIONS[precision]
    tensor = tensor.detach().cpu().contiguous()
    return tensor.to(dtype) if dtype and tensor.is_floating_point() and tensor.numel() >= _LARGE else tensor

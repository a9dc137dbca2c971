"""Reading and writing of model folders: ``config.json`` and ``model.safetensors``.

The weights file is complete: its metadata contains the configuration. ``config.json`` is for reading and editing. If
the ``save_id`` of the two differs after a crash, the configuration in the weights file is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anchordetr.config import Config, parse_config
from anchordetr.config.renamed import upgrade
from anchordetr.device import PRECISIONS
from anchordetr.errors import InputError, UsageError, closest_match
from anchordetr.files import write_atomically, write_json
from anchordetr.models.anchor_detr import TRAINING_ONLY
from anchordetr.weights.format_one import upgrade_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
UNUSED_FILE = "unused_classes.safetensors"
FORMAT_VERSION = 2
ARCHITECTURE = "AnchorDETR"
_LARGE = 4096


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
    """

    config: Config
    class_names: list[str]
    category_ids: list[int]
    weights: dict[str, Tensor]
    origin: dict[str, Any] = field(default_factory=dict)
    unused_classes: dict[str, Tensor] = field(default_factory=dict)

    def with_class_names(self, names: list[str]) -> SavedModel:
        """Return the model with other class names.

        Raises:
            UsageError: there are more or fewer names than classes.
        """
        if len(names) != len(self.class_names):
            raise UsageError(f"{len(names)} class names were given for {len(self.class_names)} classes.")
        return replace(self, class_names=names)


def write_model(folder: Path, saved: SavedModel, precision: str = "fp32") -> None:
    """Write a model folder; each existing file is replaced atomically.

    Args:
        folder: created if needed.
        saved: the model.
        precision: ``fp32``, or ``fp16`` or ``bf16`` for the large tensors; norms, biases and anchors, one per cent of
            the bytes, stay in float32.

    Raises:
        UsageError: the precision is unknown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if precision not in PRECISIONS:
        raise UsageError(f"Unknown precision '{precision}'.{closest_match(precision, PRECISIONS)}")
    values = describe(saved)
    weights = {name: _stored(tensor, precision) for name, tensor in saved.weights.items()}
    metadata = {"format": "pt", "config": json.dumps(values)}
    (folder / UNUSED_FILE).unlink(missing_ok=True)
    if saved.unused_classes:
        write_atomically(folder / UNUSED_FILE, lambda temporary: save_file(saved.unused_classes, temporary))
    size = sum(tensor.nbytes for tensor in weights.values())
    write_atomically(folder / WEIGHTS_FILE, lambda temporary: save_file(weights, temporary, metadata), size)
    write_json(folder / CONFIG_FILE, values)


def describe(saved: SavedModel) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    values = {
        "format_version": FORMAT_VERSION,
        "anchordetr_version": version("anchordetr"),
        "architecture": ARCHITECTURE,
        "class_names": saved.class_names,
        "category_ids": saved.category_ids,
        **saved.config.model_dump(mode="json"),
        "origin": saved.origin,
    }
    return values | {"save_id": hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]}


def read_model(folder: Path) -> SavedModel:
    """Return the model of a model folder.

    Raises:
        InputError: the folder is not a model folder, a file is damaged, or a newer version wrote it.
    """
    config, weights, unused = folder / CONFIG_FILE, folder / WEIGHTS_FILE, folder / UNUSED_FILE
    if not weights.is_file():
        raise InputError(f"{folder} is not a saved model: it has no {WEIGHTS_FILE}.")
    values = _read_json(config) if config.is_file() else None
    with _naming(weights):
        with safe_open(weights, "pt") as file:
            embedded = json.loads((file.metadata() or {}).get("config", "{}"))
        tensors = load_file(weights)
    with _naming(unused):
        rows = load_file(unused) if unused.is_file() else {}
    if values is None or (embedded and values.get("save_id", embedded["save_id"]) != embedded["save_id"]):
        values = embedded
    return understand(values, str(config), tensors, rows)


def understand(
    values: dict[str, Any], source: str, weights: dict[str, Tensor], unused_classes: dict[str, Tensor] | None = None
) -> SavedModel:
    """Return the model of a description, as returned by :func:`describe`, and its weights.

    Raises:
        InputError: a newer version or another library wrote it, or a value is missing; the message names ``source``.
    """
    if (
        not isinstance(values, dict)
        or values.get("architecture", ARCHITECTURE) != ARCHITECTURE
        or "model" not in values
    ):
        raise InputError(f"{source} describes {_architecture(values)}, not {ARCHITECTURE}; anchordetr cannot read it.")
    written = values.get("format_version")
    if written == 1:
        values, weights = upgrade(values), upgrade_weights(weights)
    elif written != FORMAT_VERSION:
        raise InputError(
            f"{source} has format version {written}, written by anchordetr {values.get('anchordetr_version')}; this is "
            f"anchordetr {version('anchordetr')}, which reads up to version {FORMAT_VERSION}. Update anchordetr."
        )
    try:
        names, ids = values["class_names"], values["category_ids"]
        config = parse_config({name: values[name] for name in Config.model_fields})
    except (KeyError, UsageError) as error:
        raise InputError(f"{source} is damaged: {error}") from error
    count = config.model.num_classes
    if not (isinstance(names, list) and isinstance(ids, list) and len(names) == len(ids) == count):
        raise InputError(f"{source} is damaged: it needs {count} class_names and as many category_ids.")
    config = config.model_copy(update={"model": config.model.without_pretraining()})
    return SavedModel(config, names, ids, weights, values.get("origin", {}), unused_classes or {})


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a network of the same architecture; half precision is converted to float32.

    Modules used only in training may differ: those without weights keep their values, and weights without a module are
    ignored.

    Raises:
        InputError: names or shapes differ; the message lists all differences.
    """
    own = {name: value for name, value in model.state_dict().items() if name.startswith(TRAINING_ONLY)}
    known = {name: value for name, value in weights.items() if name in own or not name.startswith(TRAINING_ONLY)}
    check_weights(model, own | known, source)
    model.load_state_dict(own | known)


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Check that names and shapes of weights are those of a network, which can be on the meta device.

    Raises:
        InputError: names or shapes differ; the message lists all differences.
    """
    own = model.state_dict()
    problems = [f"missing {name}" for name in own.keys() - weights.keys()]
    problems += [f"unexpected {name}" for name in weights.keys() - own.keys()]
    problems += [
        f"{name} is {_shape(weights[name])} instead of {_shape(own[name])}"
        for name in own.keys() & weights.keys()
        if weights[name].shape != own[name].shape
    ]
    if problems:
        listed = "; ".join(sorted(problems))
        raise InputError(f"The weights of {source} do not fit the model ({len(problems)} differences): {listed}.")


def _stored(tensor: Tensor, precision: str) -> Tensor:
    dtype = None if precision == "fp32" else PRECISIONS[precision]
    tensor = tensor.detach().cpu().contiguous()
    return tensor.to(dtype) if dtype and tensor.is_floating_point() and tensor.numel() >= _LARGE else tensor


def _read_json(file: Path) -> dict[str, Any]:
    with _naming(file):
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it does not hold a JSON object")
    return dict(values)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Convert errors of a damaged file to an InputError that names it."""
    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is damaged: {error}. Save or fetch the model again.") from error


def _architecture(values: dict[str, Any]) -> str:
    found = values.get("architecture") or values.get("architectures") or values.get("model_type") or "no model"
    return ", ".join(found) if isinstance(found, list) else str(found)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"

"""Conversion of checkpoint files of the original implementation and of detrex, without running pickled code."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anchordetr.config import Config
from anchordetr.data.layouts.coco_classes import COCO_CLASSES
from anchordetr.errors import InputError, UsageError, reason
from anchordetr.files import write_atomically
from anchordetr.models.builders import build_model
from anchordetr.weights.official_names import (
    check_representable,
    from_original,
    is_detrex,
    read_architecture,
    to_original,
)
from anchordetr.weights.saved_model import SavedModel, check_weights, describe, understand

log = logging.getLogger("anchordetr")

_OWN = "anchordetr"
_COCO_ROWS = 91
_MAX_ROWS = 10_000
_UNUSED_BIAS = -11.5  # logit of the score 1e-5


def read_original(path: Path, features: str | None = None) -> SavedModel:
    """Return the model of a checkpoint of the original implementation or of detrex.

    Args:
        path: the file, with or without training state; no pickled code of it is imported or run.
        features: ``c5`` or ``dc5``; by default from the arguments in the file, or else from its name.

    Returns:
        The model; its ``origin`` has the format and the source of the feature level.

    Raises:
        InputError: the file is damaged, contains pickled code, is not an Anchor DETR, or its feature level is unknown.
    """
    checkpoint = load_safely(path)
    state = checkpoint.get("model", checkpoint)
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} contains no weights: it needs a state dict, or one under 'model'.")
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    try:
        weights = from_original(state)
        if _OWN in checkpoint:
            return _split_head(understand(checkpoint[_OWN], str(path), weights))
        return _read_foreign(path, weights, is_detrex(state), features, _arguments(checkpoint))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_foreign(
    path: Path, weights: dict[str, Tensor], detrex: bool, features: str | None, arguments: Mapping[str, Any]
) -> SavedModel:
    levels = sum(name.startswith("projection.convolutions.") and name.endswith(".weight") for name in weights)
    level, source = ("c3_c4_dc5", "the number of levels") if levels > 1 else _features(path, features, arguments)
    architecture = read_architecture(
        weights, level, arguments.get("nheads", 8), arguments.get("num_query_position", 300)
    )
    with torch.device("meta"):
        check_weights(build_model(architecture), weights, path.name)
    rows = architecture.num_classes
    is_coco = rows == (len(COCO_CLASSES) if detrex else _COCO_ROWS)
    classes = COCO_CLASSES if is_coco else {row: f"class {row}" for row in range(rows)}
    config = Config(model=architecture.model_copy(update={"num_classes": len(classes)}))
    origin = {
        "source": path.name,
        "format": "detrex" if detrex else "original",
        "features": f"{level}, from {source}",
    }
    saved = SavedModel(config, list(classes.values()), list(classes), weights, origin)
    return saved if detrex else _split_head(saved)


def write_original(path: Path, saved: SavedModel) -> None:
    """Write a checkpoint that the original implementation loads without missing or unexpected keys.

    The original indexes its class head by category id, so that its number of classes is the highest id plus one.

    Raises:
        UsageError: the original has no equivalent of this model.
    """
    check_representable(saved.config.model)
    state = to_original(_join_head(saved), saved.config.model.decoder_layers)
    checkpoint = {"model": state, _OWN: describe(saved)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: torch.save(checkpoint, temporary))


def load_safely(path: Path) -> dict[str, Any]:
    """Return a checkpoint of tensors, plain containers and ``argparse.Namespace``; other pickled objects are refused.

    Raises:
        InputError: the file is damaged, or contains any other object.
    """
    if torch.__version__ < "2.10":
        log.warning(
            "Reading %s with torch %s, in which a malicious checkpoint can corrupt memory (CVE-2026-24747): update "
            "torch to 2.10, or read only files that you trust.",
            path,
            torch.__version__,
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise InputError(f"{path} is damaged, or is not a checkpoint: {reason(error)}.") from error
        raise InputError(
            f"{path} is refused: it asks to run {code[1]}, which weights do not need. Nothing was run. "
            "If you trust its author, ask for a plain state dict."
        ) from error
    except Exception as error:
        raise InputError(f"{path} is damaged, or is not a checkpoint: {reason(error)}.") from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} contains a {type(checkpoint).__name__}, not a checkpoint with weights.")
    return checkpoint


def _arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    arguments = checkpoint.get("args")
    return vars(arguments) if isinstance(arguments, argparse.Namespace) else {}


def _features(path: Path, features: str | None, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Return the feature level, ``c5`` or ``dc5``, and its source."""
    if features is not None:
        return features, "--features"
    if "dilation" in arguments:
        is_dilated = str(arguments["dilation"]).lower() == "true"
        return "dc5" if is_dilated else "c5", "the file's arguments"
    name = path.name.lower()
    if "dc5" in name:
        return "dc5", "the file's name"
    if "c5" in name or re.search(r"r\d+_\d+ep", name):  # as detrex names its C5 files
        return "c5", "the file's name"
    raise InputError("the file does not say whether it is C5 or DC5; add --features c5 or --features dc5.")


def _split_head(saved: SavedModel) -> SavedModel:
    """Return the model with only the rows of its categories in the class head, and the others as unused classes."""
    ids = torch.tensor(saved.category_ids)
    head = {part: saved.weights[f"heads.class_head.{part}"] for part in ("weight", "bias")}
    is_used = torch.zeros(len(head["bias"]), dtype=torch.bool)
    is_used[ids] = True
    used = {f"heads.class_head.{part}": rows[ids] for part, rows in head.items()}
    unused = {} if is_used.all() else {part: rows[~is_used] for part, rows in head.items()}
    return SavedModel(saved.config, saved.class_names, saved.category_ids, saved.weights | used, saved.origin, unused)


def _join_head(saved: SavedModel) -> dict[str, Tensor]:
    """Return the weights with a class head indexed by category id, as the original's; other ids get low scores."""
    ids = torch.tensor(saved.category_ids)
    rows = int(ids.max()) + 1
    if rows > _MAX_ROWS or int(ids.min()) < 0:
        raise UsageError(f"The original uses category ids as rows of its class head; {rows - 1} is too high for that.")
    is_used = torch.zeros(rows, dtype=torch.bool)
    is_used[ids] = True
    weight, bias = saved.weights["heads.class_head.weight"], saved.weights["heads.class_head.bias"]
    joined_weight, joined_bias = weight.new_zeros(rows, weight.shape[1]), bias.new_full((rows,), _UNUSED_BIAS)
    joined_weight[ids], joined_bias[ids] = weight, bias
    if len(saved.unused_classes.get("bias", ())) == int((~is_used).sum()) > 0:
        joined_weight[~is_used], joined_bias[~is_used] = saved.unused_classes["weight"], saved.unused_classes["bias"]
    return saved.weights | {"heads.class_head.weight": joined_weight, "heads.class_head.bias": joined_bias}

"""Conversion of checkpoint files of the original implementation and of detrex, without running pickled code."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anchordetr.config import Config
from anchordetr.data.layouts.coco_classes import COCO_CLASSES
from anchordetr.errors import InputError, UsageError, by_user
from anchordetr.files import write_atomically
from anchordetr.models.builders import build_model
from anchordetr.weights.checkpoint_file import load_safely, require_tensors
from anchordetr.weights.checks import check_finite, check_weights
from anchordetr.weights.description import SavedModel, describe, understand
from anchordetr.weights.official_names import (
    check_representable,
    from_original,
    is_detrex,
    read_architecture,
    to_original,
)

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
    state = require_tensors(checkpoint.get("model", checkpoint), path)
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    try:
        weights = from_original(state)
        check_finite(weights, path.name)
        if _OWN in checkpoint:
            return _split_head(understand(checkpoint[_OWN], path.name, weights))
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
    choice = by_user("--features c5 or --features dc5", "features='c5' or features='dc5'")
    raise InputError(f"the file does not say whether it is C5 or DC5; add {choice}.")


def _split_head(saved: SavedModel) -> SavedModel:
    """Return the model with only the rows of its categories in the class head, and the others as unused classes."""
    ids = torch.tensor(saved.category_ids)
    head = {part: saved.weights[f"heads.class_head.{part}"] for part in ("weight", "bias")}
    if not 0 <= min(saved.category_ids) <= max(saved.category_ids) < len(head["bias"]) == len(head["weight"]):
        raise InputError("its category_ids are not all rows of its class head.")
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

"""Loading of saved models from a folder, a checkpoint file, a published name or a Hugging Face repository."""

from __future__ import annotations

import os
import re
from pathlib import Path

from anchordetr.console import say
from anchordetr.errors import InputError, closest_match
from anchordetr.models.presets import PRESETS
from anchordetr.weights import zoo
from anchordetr.weights.description import SavedModel
from anchordetr.weights.folder import CONFIG_FILE, WEIGHTS_FILE
from anchordetr.weights.hub import fetch_from_hub
from anchordetr.weights.official import read_original
from anchordetr.weights.published import PUBLISHED
from anchordetr.weights.saved_model import read_model


def load_pretrained(source: str | Path, features: str | None = None) -> SavedModel:
    """Return a saved model.

    Args:
        source: a model folder; a run's output folder, of which ``best`` is used; a checkpoint file of the original or
            of detrex; the name of a published model; or a repository on the Hugging Face hub. Local paths take
            precedence.
        features: ``c5`` or ``dc5``, for a checkpoint file that does not say which.

    Raises:
        InputError: the model does not exist, cannot be downloaded, or is damaged.
    """
    if not isinstance(source, (str, os.PathLike)) or not str(source).strip():
        raise InputError("There is no name of a model; give a folder, a file, the name of a model, or user/name.")
    path = Path(os.path.expanduser(source))
    if os.path.isdir(path):
        return _read_folder(path)
    if os.path.lexists(path):
        return _read_file(path, features)
    name = str(source)
    if name in PUBLISHED:
        return zoo.fetch(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not os.path.isdir(path.parent):
        say(f"Looking for {name} on the Hugging Face hub.")
        return read_model(fetch_from_hub(name))
    if name in PRESETS:
        raise InputError(
            f"'{name}' has no published weights. Detector('{name}'), or --model {name}, is this model with random "
            f"weights, to train; published are {', '.join(PUBLISHED)}."
        )
    raise InputError(
        f"'{source}' is neither a folder or file here nor a published model.{closest_match(name, PRESETS)}"
    )


def _read_folder(folder: Path) -> SavedModel:
    """Return the model of a model folder, or the best model of a run, or its last one if the best is damaged."""
    if any(os.path.lexists(folder / name) for name in (WEIGHTS_FILE, CONFIG_FILE)) or not (folder / "best").is_dir():
        return read_model(folder)
    try:
        return read_model(folder / "best")
    except InputError as error:
        last = read_model(folder / "last")
        say(f"{error} The last model of the run is used instead: {folder / 'last'}.")
        return last


def _read_file(file: Path, features: str | None) -> SavedModel:
    if file.name == WEIGHTS_FILE:
        return read_model(file.parent)
    if file.suffix == ".safetensors":
        raise InputError(
            f"{file} must be called {WEIGHTS_FILE}, with {CONFIG_FILE} in the same folder, to be read as a model."
        )
    saved = read_original(file, features)
    model = saved.config.model
    if "features" in saved.origin:
        kind = saved.origin.get("format", "original")
        say(f"{file}: {kind} checkpoint, {model.backbone}, {saved.origin['features']}.")
    return saved

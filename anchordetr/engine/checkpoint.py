"""Model folders (``config.json`` + ``model.safetensors``) and the training state; every file is replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anchordetr.errors import InputError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
STATE_FILE = "training_state.pt"
FORMAT_VERSION = 1


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place: readers never see half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_model(folder: Path, model: nn.Module, config: dict[str, Any]) -> None:
    """Save a network's weights and what is needed to build it again."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(folder / WEIGHTS_FILE, lambda temporary: save_file(weights, temporary, {"format": "pt"}))
    write_json(folder / CONFIG_FILE, {"format_version": FORMAT_VERSION, **config})


def read_model_config(folder: Path) -> dict[str, Any]:
    """Read the ``config.json`` of a model folder.

    Raises:
        InputError: the folder is no model folder, or was written by a newer version.
    """
    file = folder / CONFIG_FILE
    if not file.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise InputError(f"{folder} is no saved model: it needs {CONFIG_FILE} and {WEIGHTS_FILE}.")
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is damaged: {error}") from error
    version = config.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise InputError(
            f"{file} has format version {version}; this anchordetr reads version {FORMAT_VERSION}. Update anchordetr."
        )
    return config


def load_weights(folder: Path, model: nn.Module) -> None:
    """Load the weights of a model folder into a network of the same architecture.

    Raises:
        InputError: the file is damaged or does not fit; the message lists what does not.
    """
    file = folder / WEIGHTS_FILE
    try:
        weights: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is damaged: {error}") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{file} does not fit the model in {CONFIG_FILE}: {error}") from error


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Save everything that a training run needs to go on."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / STATE_FILE, lambda temporary: torch.save(state, temporary))


def load_state(folder: Path) -> dict[str, Any]:
    """Load a training state; no code in the file is run.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = folder / STATE_FILE
    if not file.is_file():
        raise InputError(f"There is nothing to resume: {file} does not exist. Start without --resume.")
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{file} is damaged and cannot be resumed from: {error}") from error
    return state

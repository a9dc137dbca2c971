"""The saved state of a training run, from which it can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from anchordetr.errors import InputError
from anchordetr.files import write_atomically

STATE_FILE = "training_state.pt"
FORMAT_VERSION = 2


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Save everything that is needed to resume a training run."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format_version": FORMAT_VERSION, **state}
    write_atomically(folder / STATE_FILE, lambda temporary: torch.save(content, temporary))


def load_state(folder: Path) -> dict[str, Any]:
    """Load a training state; no code in the file is run.

    Raises:
        InputError: there is no state, it is damaged, or another version of the library wrote it.
    """
    file = folder / STATE_FILE
    if not file.is_file():
        raise InputError(f"There is nothing to resume: {file} does not exist. Start without --resume.")
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{file} is damaged and cannot be resumed from: {error}") from error
    version = state.pop("format_version", 1)
    if version != FORMAT_VERSION:
        raise InputError(
            f"{file} has format version {version}, and this anchordetr resumes version {FORMAT_VERSION}. Start a new "
            f"run from its weights (--weights {folder}), or resume it with the anchordetr that wrote it."
        )
    return state

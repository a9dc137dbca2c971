"""The saved states of a training run: the newest one, and the one before it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anchordetr.config import upgrade
from anchordetr.console import say
from anchordetr.errors import InputError, by_user, limited, reason
from anchordetr.files import require_regular_file, write_atomically
from anchordetr.finite import describe_non_finite, non_finite

STATE_FILE = "training_state.pt"
PREVIOUS_STATE_FILE = "training_state.previous.pt"
FORMAT_VERSION = 4
_RESUMABLE = (3, FORMAT_VERSION)


class DamagedStateError(InputError):
    """A saved state is damaged."""


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Save everything that is needed to resume a training run; the state before it is kept.

    Raises:
        WriteError: the disk is full, the folder cannot be written, and the like.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format_version": FORMAT_VERSION, **state}
    size = sum(tensor.nbytes for _, tensor in _tensors(content))
    previous = folder / PREVIOUS_STATE_FILE
    write_atomically(folder / STATE_FILE, lambda temporary: torch.save(content, temporary), size, previous)


def holds_state(folder: Path) -> bool:
    """Return whether a folder has a state, which :func:`load_state` can load unless it is damaged."""
    return (folder / STATE_FILE).is_file() or (folder / PREVIOUS_STATE_FILE).is_file()


def remove_states(folder: Path) -> None:
    """Remove the states of a run that is to be replaced."""
    for name in (PREVIOUS_STATE_FILE, STATE_FILE):
        (folder / name).unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any]:
    """Load the newest state, or the one before it, with a note, if the newest is damaged; no code in the file is run.

    Raises:
        InputError: there is no state, all are damaged, or another version of the library wrote it.
    """
    newest, previous = folder / STATE_FILE, folder / PREVIOUS_STATE_FILE
    if not holds_state(folder):
        run = folder.parent.parent  # of a user who named ``best`` or ``last``
        if holds_state(run / folder.name):
            raise InputError(f"{folder.parent} is a part of a run; name the folder of the whole run, {run}.")
        raise InputError(
            f"There is nothing to resume: {newest} does not exist. Start without {by_user('--resume', 'resume=True')}."
        )
    if not newest.is_file():  # the process was killed between renaming the one and the other
        return _read(previous)
    try:
        return _read(newest)
    except DamagedStateError as error:
        try:
            state = _read(previous)
        except InputError:
            raise InputError(f"{error} Start a new run from its weights ({_weights(folder.parent)}).") from error
        say(f"{error} The save before it is used: {_describe_loss(newest, state)}.")
        return state


def _read(file: Path) -> dict[str, Any]:
    require_regular_file(file)
    try:
        _verify(file)
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        version = state.pop("format_version", 1)
        bad = non_finite(dict(_tensors(state)))
    except Exception as error:
        raise DamagedStateError(f"{file} is damaged and cannot be resumed from: {reason(error)}.") from error
    if not isinstance(version, int) or version not in _RESUMABLE:
        raise InputError(
            f"{file} has format version {limited(version)}, and this anchordetr resumes versions {_RESUMABLE[0]} to "
            f"{FORMAT_VERSION}. "
            f"Start a new run from its weights ({_weights(file.parent)}), or resume it with the anchordetr that wrote "
            "it."
        )
    if bad:
        raise DamagedStateError(f"{file} is damaged: {describe_non_finite(bad)}.")
    if version != FORMAT_VERSION and isinstance(state.get("config"), dict):
        state["config"] = upgrade(state["config"])
    return state


def _weights(folder: Path) -> str:
    return by_user(f"--weights {folder}", f"Detector.from_pretrained('{folder}')")


def _verify(file: Path) -> None:
    """Check the checksums of an archive, which torch writes but does not check.

    Raises:
        ValueError, zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
        marked = [entry.filename for entry in archive.infolist() if entry.external_attr]
    if damaged is not None:
        raise ValueError(f"the checksum of its record {damaged} is wrong")
    if marked:  # torch never does that, and reads a record that is marked as a folder as anything
        raise ValueError(f"its record {marked[0]} has an attribute")


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries, lists and tuples with their names, such as ``model.heads.weight``."""
    if isinstance(value, Tensor):
        yield name.lstrip("."), value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors(part, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from _tensors(part, f"{name}.{index}")


def _describe_loss(damaged: Path, state: Mapping[str, Any]) -> str:
    """Return how many steps a state is behind a damaged one, as far as that one can still tell."""
    try:
        with zipfile.ZipFile(damaged) as archive:
            for record in archive.namelist():
                if record.endswith("/data.pkl"):
                    archive.read(record)  # raises if it is damaged itself
        lost = torch.load(damaged, map_location="cpu", mmap=True, weights_only=True)["steps_done"] - state["steps_done"]
    except Exception:
        return "the steps since then are lost, and are trained again"
    return f"{lost} steps are lost, and are trained again" if lost else "no step is lost"

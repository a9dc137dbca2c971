"""The ids of the runs of logging services, kept in the folder of the training run that they belong to."""

from __future__ import annotations

from pathlib import Path

from anchordetr.documents import read_json
from anchordetr.files import MEBIBYTE, write_json
from anchordetr.training.callbacks import TrainingStart


def kept_id(file: Path, start: TrainingStart) -> str | None:
    """Return the id in a file, if the training run is resumed; None if it is new or the file does not exist.

    Raises:
        InputError: the file is damaged.
    """
    if start.steps_done == 0 or not file.exists():
        return None
    return str(read_json(file, MEBIBYTE)["id"])


def keep_id(file: Path, run_id: str) -> None:
    """Write the id of a service's run."""
    write_json(file, {"id": run_id})

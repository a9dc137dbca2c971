"""The saved state of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anchordetr.errors import InputError
from anchordetr.training.state import FORMAT_VERSION, STATE_FILE, load_state, save_state


def test_a_state_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    save_state(tmp_path / "last", {"step": 3})
    assert load_state(tmp_path / "last") == {"step": 3}


@pytest.mark.parametrize("version", [None, 1, FORMAT_VERSION + 1])
def test_a_state_of_another_version_is_refused(version: int | None, tmp_path: Path) -> None:
    versioned = {} if version is None else {"format_version": version}
    torch.save({"step": 3, **versioned}, tmp_path / STATE_FILE)
    with pytest.raises(InputError, match=rf"format version {version or 1}, .*--weights"):
        load_state(tmp_path)


def test_no_code_in_a_state_is_run(tmp_path: Path) -> None:
    torch.save({"format_version": FORMAT_VERSION, "object": Path()}, tmp_path / STATE_FILE)
    with pytest.raises(InputError, match="damaged"):
        load_state(tmp_path)

"""The saved state of a run."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from anchordetr.errors import InputError
from anchordetr.training.state import (
    FORMAT_VERSION,
    PREVIOUS_STATE_FILE,
    STATE_FILE,
    load_state,
    remove_states,
    save_state,
)


def state(steps: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(steps)
    weights = {f"layers.{index}": torch.randn(20, 10, generator=generator) for index in range(5)}
    return {"model": weights, "progress": {"epoch": 1, "lr": 0.1}, "steps_done": steps}


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return list(first) == list(second) and all(equal(value, second[key]) for key, value in first.items())
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def test_a_state_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    save_state(tmp_path / "last", {"step": 3})
    assert load_state(tmp_path / "last") == {"step": 3}


@pytest.mark.parametrize("version", [None, 1, FORMAT_VERSION + 1])
def test_a_state_of_another_version_is_refused(version: int | None, tmp_path: Path) -> None:
    versioned = {} if version is None else {"format_version": version}
    torch.save({"step": 3, **versioned}, tmp_path / STATE_FILE)
    with pytest.raises(InputError, match=rf"format version {version or 1}, .*from_pretrained"):
        load_state(tmp_path)


def test_no_code_in_a_state_is_run(tmp_path: Path) -> None:
    torch.save({"format_version": FORMAT_VERSION, "object": Path()}, tmp_path / STATE_FILE)
    with pytest.raises(InputError, match="damaged"):
        load_state(tmp_path)


def test_flipped_bits_are_noticed_or_change_nothing(tmp_path: Path) -> None:
    save_state(tmp_path, state(3))
    file, dice, refused = tmp_path / STATE_FILE, random.Random(0), 0
    content = bytearray(file.read_bytes())
    for _ in range(300):
        place, bit = dice.randrange(len(content)), 1 << dice.randrange(8)
        content[place] ^= bit
        file.write_bytes(content)
        content[place] ^= bit
        try:
            assert equal(load_state(tmp_path), state(3))
        except InputError:
            refused += 1
    assert refused > 100


def test_the_state_before_a_damaged_one_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (3, 5, 8):
        save_state(tmp_path, state(steps))
    file = tmp_path / STATE_FILE
    content = bytearray(file.read_bytes())
    place = content.index(state(8)["model"]["layers.2"].numpy().tobytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert equal(load_state(tmp_path), state(5))
    shown = " ".join(capsys.readouterr().err.split())
    assert "training_state.pt is damaged" in shown
    assert "3 steps are lost, and are trained again" in shown
    file.write_bytes(content[:100])
    assert equal(load_state(tmp_path), state(5))
    assert "the steps since then are lost" in " ".join(capsys.readouterr().err.split())
    file.unlink()  # as if killed between two renames
    assert equal(load_state(tmp_path), state(5))
    (tmp_path / PREVIOUS_STATE_FILE).write_bytes(b"")
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"training_state\.pt is damaged.*layers|data.*from_pretrained"):
        load_state(tmp_path)


def test_a_failed_save_keeps_both_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, state(3))
    save_state(tmp_path, state(5))

    def fail(content: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("anchordetr.training.state.torch.save", fail)
        with pytest.raises(OSError, match="No space left"):
            save_state(tmp_path, state(8))
    assert equal(load_state(tmp_path), state(5))
    (tmp_path / STATE_FILE).unlink()
    assert equal(load_state(tmp_path), state(3))
    remove_states(tmp_path)
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    bad = state(3)
    bad["model"]["layers.1"][0, 0] = float("nan")
    save_state(tmp_path, bad)
    with pytest.raises(InputError, match=r"not finite \(model\.layers\.1\)"):
        load_state(tmp_path)


@pytest.mark.parametrize("content", [[], 3, {"format_version": "x"}, {}, {"format_version": FORMAT_VERSION + 0.5}])
def test_what_is_no_state_is_named(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / STATE_FILE)
    with pytest.raises(InputError, match="training_state"):
        load_state(tmp_path)

"""The folder of a run: what it holds, when it may start, what survives a fault."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_disk import small_disk
from torch import nn
from training_runs import assert_same_runs, assert_same_tensors

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.errors import InputError
from anchordetr.optimize import prepared
from anchordetr.training import state as checkpoint
from anchordetr.training.callbacks import Callback
from anchordetr.training.run import TrainingRun


@pytest.fixture
def detector(small_config: Config) -> Detector:
    torch.manual_seed(1)
    return Detector(small_config, device="cpu")


def test_a_run_keeps_best_and_last_and_its_log(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    metrics = detector.train(coco_folder, tmp_path, epochs=2)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert metrics.ap == max(entry["ap"] for entry in entries)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics.to_dict()
    assert detector.category_ids == [3, 7, 20]

    best = Detector.from_pretrained(tmp_path, device="cpu")
    assert best.class_names == ["circle", "rectangle", "triangle"]
    assert best.category_ids == [3, 7, 20]
    assert best.evaluate(coco_folder) == metrics
    assert_same_tensors(best.model.state_dict(), detector.model.state_dict())


def test_a_trained_detector_makes_nothing_at_the_first_prediction(
    detector: Detector, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchordetr.detector.plot_report", lambda *arguments: {})
    detector.train(coco_folder, tmp_path, epochs=1)
    monkeypatch.setattr(prepared, "fuse", lambda model: pytest.fail("a copy was made"))
    detector.predict(np.zeros((32, 32, 3), np.uint8))


def test_a_folder_with_a_run_is_not_overwritten(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    detector.train(coco_folder, tmp_path, epochs=1)
    with pytest.raises(InputError, match="already holds a run"):
        detector.train(coco_folder, tmp_path, epochs=1)
    detector.train(coco_folder, tmp_path, overwrite=True, epochs=1)


def test_nothing_to_resume_is_said(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to resume"):
        detector.train(coco_folder, tmp_path, resume=True)


def test_another_configuration_is_shown_and_refused(
    small_config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)
    changed = small_config.updated({"train.lr": 0.5, "loss.box_weight": 1.0})
    with pytest.raises(InputError, match=r"another configuration \(loss\.box_weight, train\.lr\).*accept_changes=True"):
        Detector(changed, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2)
    shown = " ".join(capsys.readouterr().err.split())
    assert "train.lr: 0.0013 -> 0.5" in shown
    assert "train.epochs: 1 -> 2" in shown
    Detector(changed, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2, accept_changes=True)


def test_a_run_saved_before_a_setting_existed_goes_on(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)
    state = checkpoint.load_state(tmp_path / "last")
    del state["config"]["model"]["denoising_groups"], state["config"]["train"]["clip_max_norm"]
    checkpoint.save_state(tmp_path / "last", state)
    with pytest.raises(InputError, match=r"another configuration \(train\.clip_max_norm\)"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2)
    changed = small_config.updated({"train.clip_max_norm": Config().train.clip_max_norm})
    Detector(changed, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2)


def test_the_state_is_saved_though_the_network_cannot_be(small_config: Config, tmp_path: Path) -> None:
    def full_disk(folder: Path, model: nn.Module) -> None:
        raise OSError("no space")

    run = TrainingRun(tmp_path, small_config, full_disk)
    with pytest.raises(OSError, match="no space"):
        run.save_last(nn.Identity(), {"step": 3}, [])
    assert run.load_state()["step"] == 3


def test_a_damaged_state_is_named_and_the_best_model_is_left(
    small_config: Config, coco_folder: Path, tmp_path: Path
) -> None:
    Detector(small_config, device="cpu").train(coco_folder, tmp_path, epochs=1)
    for name in (checkpoint.STATE_FILE, checkpoint.PREVIOUS_STATE_FILE):
        file = tmp_path / "last" / name
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"training_state\.pt is damaged.*from_pretrained"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path, resume=True, epochs=2)
    Detector.from_pretrained(tmp_path, device="cpu")


def test_a_full_disk_keeps_what_was_saved(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config.updated({"train.batch_size": 2, "train.save_every": 1})
    save, calls = torch.save, []

    def fill_up(state: Any, file: Path) -> None:
        calls.append(file)
        if len(calls) == 3:
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        save(state, file)

    monkeypatch.setattr(checkpoint.torch, "save", fill_up)
    with pytest.raises(OSError, match="No space left"):
        Detector(config, device="cpu").train(coco_folder, tmp_path / "parts", epochs=1)
    assert checkpoint.load_state(tmp_path / "parts" / "last")["progress"]["step"] == 2
    assert not [file for file in (tmp_path / "parts").rglob("*") if "tmp" in file.name]
    monkeypatch.undo()
    Detector(config, device="cpu").train(coco_folder, tmp_path / "parts", resume=True, epochs=1)
    Detector(config, device="cpu").train(coco_folder, tmp_path / "whole", epochs=1)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    small_config: Config, coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / "file" / "run", epochs=1)

    def refuse(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("anchordetr.disk.tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        Detector(small_config, device="cpu").train(coco_folder, tmp_path / "run", epochs=1)


def test_too_little_space_is_said_before_training(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    config = small_config.updated({"train.epochs": 1, "train.ema_decay": 0.9})
    detector = Detector(config, ["circle", "rectangle", "triangle"], device="cpu")
    before = {name: value.clone() for name, value in detector.model.state_dict().items()}
    with small_disk(tmp_path / "disk", 2**20) as disk:
        with pytest.raises(
            InputError, match=rf"run/last cannot be written: the disk of {disk} is full .*needed: [\d,]+, free"
        ):
            detector.train(coco_folder, disk / "run")
        assert_same_tensors(before, detector.model.state_dict())
        assert not (disk / "run" / "last").exists()
    detector.train(coco_folder, tmp_path / "run")
    parts = [file.stat().st_size for name in ("last", "best") for file in (tmp_path / "run" / name).iterdir()]
    state = (tmp_path / "run" / "last" / checkpoint.STATE_FILE).stat().st_size
    run = TrainingRun(tmp_path / "empty" / "run", config, lambda folder, model: None)
    requested: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anchordetr.training.run.require_space", lambda path, size: requested.append(size))
        run.require_space(detector.model, detector.model)
    assert requested[0] == pytest.approx(sum(parts) + state, rel=0.3)


def test_a_disk_that_fills_up_leaves_a_run_to_resume(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    config = small_config.updated({"train.epochs": 2})

    class Fill(Callback):
        def on_epoch(self, entry: Mapping[str, Any]) -> None:
            free = shutil.disk_usage(disk).free
            (disk / "filler").write_bytes(bytes(free - 200_000))

    with small_disk(tmp_path / "disk", 32 * 2**20) as disk:
        with pytest.raises(OSError, match=rf"training_state\.pt cannot be written: the disk of {disk} is full"):
            Detector(config, device="cpu").train(coco_folder, disk / "run", callbacks=[Fill()])
        (disk / "filler").unlink()
        Detector.from_run(disk / "run", device="cpu").train(coco_folder, disk / "run", resume=True)
        Detector(config, device="cpu").train(coco_folder, tmp_path / "whole")
        assert_same_runs(tmp_path / "whole", disk / "run")

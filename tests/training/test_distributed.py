"""Two processes on the CPU do what one does, and end together."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.weights.saved_model import read_model


@pytest.fixture
def start(small_config: Config, tmp_path: Path) -> Path:
    """A model to start from, without batch statistics, which two processes would not share."""
    config = small_config.updated(
        {
            "model.freeze_batch_norm": True,
            "train.batch_size": 4,
            "train.save_every": 1,
            "train.epochs": 2,
            "train.drop_at": 1.0,
            "train.warmup": 0.0,
        }
    )
    Detector(config, ["circle", "rectangle", "triangle"], device="cpu").save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def launch(processes: int, *arguments: object, script: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    target = ["-m", "anchordetr", "train"] if script is None else [str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return subprocess.run(
        [*command, *target, *map(str, arguments)], capture_output=True, text=True, timeout=200, env=environment
    )


def options(start: Path, data: Path, output: Path) -> list[object]:
    return ["--weights", start, "--data", data, "--output-dir", output, "--device", "cpu", "--workers", 0]


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_train_like_one(accumulate: int, start: Path, coco_folder: Path, tmp_path: Path) -> None:
    settings = ["--set", f"train.grad_accum_steps={accumulate}"]
    Detector.from_pretrained(start, device="cpu", settings={"data.workers": 0}).train(coco_folder, tmp_path / "one")
    done = launch(2, *options(start, coco_folder, tmp_path / "two"), *settings)
    assert done.returncode == 0, done.stderr
    for one, two in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        for name, value in one.items():
            if name != "per_class":
                assert two[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    first, second = (read_model(tmp_path / name / "last").weights for name in ("one", "two"))
    apart = torch.cat([(second[name] - tensor).abs().flatten().float() for name, tensor in first.items()])
    assert (apart < 1e-4).float().mean() > 0.99
    assert (
        apart.max() < 4 * 5e-3
    )  # four steps of the highest rate: where a gradient is rounding alone, Adam makes whole steps of it
    assert done.stdout.count("max. detections") == 1  # one table, of the first process


def test_two_processes_train_with_what_only_training_uses(start: Path, coco_folder: Path, tmp_path: Path) -> None:
    file = coco_folder / "annotations" / "instances_train.json"
    shutil.copytree(coco_folder, tmp_path / "data")
    content = json.loads(file.read_text())
    kept = {image["id"] for image in content["images"][:2]}  # most batches of a process have no object
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    (tmp_path / "data" / "annotations" / file.name).write_text(json.dumps(content))
    settings = [
        "model.denoising_groups=2",
        "model.query_groups=2",
        "model.attention=rcda_rotary",
        "train.gradient_checkpointing=true",
    ]
    changes = [part for setting in settings for part in ("--set", setting)]
    done = launch(2, *options(start, tmp_path / "data", tmp_path / "run"), *changes)
    assert done.returncode == 0, done.stderr
    assert len(log(tmp_path / "run")) == 2
    assert "training_sources.denoising.labels.weight" in read_model(tmp_path / "run" / "last").weights


def test_another_number_of_processes_goes_on_with_the_same_steps(
    start: Path, coco_folder: Path, tmp_path: Path
) -> None:
    Detector.from_pretrained(start, device="cpu", settings={"data.workers": 0}).train(coco_folder, tmp_path / "one")
    Detector.from_pretrained(start, device="cpu", settings={"data.workers": 0}).train(
        coco_folder, tmp_path / "two", epochs=1
    )
    done = launch(
        2, "--data", coco_folder, "--output-dir", tmp_path / "two", "--resume", "--epochs", 2, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    assert log(tmp_path / "two")[1]["loss_total"] == pytest.approx(log(tmp_path / "one")[1]["loss_total"], rel=1e-4)
    odd = launch(
        3, "--data", coco_folder, "--output-dir", tmp_path / "two", "--resume", "--epochs", 3, "--device", "cpu"
    )
    assert odd.returncode != 0
    assert "cannot be shared evenly by 3 processes" in odd.stderr


def test_a_dead_process_ends_the_others(start: Path, coco_folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "die.py"
    script.write_text(
        "import os, sys\n"
        "from anchordetr import Detector\n"
        "from anchordetr.training.trainer import Trainer\n"
        "step = Trainer.train_step\n"
        "def die(self, group):\n"
        "    if self.process_group.rank == 1 and self.progress.step == 1:\n"
        "        os._exit(9)\n"
        "    return step(self, group)\n"
        "Trainer.train_step = die\n"
        f"Detector.from_pretrained({str(start)!r}, device='cpu').train({str(coco_folder)!r}, sys.argv[1])\n"
    )
    began = time.monotonic()
    done = launch(2, tmp_path / "run", script=script)
    assert done.returncode != 0
    assert time.monotonic() - began < 120
    assert (tmp_path / "run" / "last" / "training_state.pt").exists()

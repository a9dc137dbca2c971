"""``anchordetr predict``: no result is lost, whatever ends the run; odd images, names and streams."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call
from PIL import Image
from saved_models import smallest_config

from anchordetr import Detector
from anchordetr.detections import Detections


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model without training."""
    config = smallest_config(num_classes=3).updated({"data.short_side": 48})
    folder = tmp_path_factory.mktemp("model")
    Detector(config, device="cpu").save_pretrained(folder)
    return folder


def draw(file: Path, height: int = 20, width: int = 30) -> Path:
    Image.fromarray(np.full((height, width, 3), 127, np.uint8)).save(file)
    return file


def predict(model: Path, output: Path, *sources: object) -> int:
    options = ["--weights", model, "--output-dir", output, "--threshold", 0.0, "--device", "cpu", "--overwrite"]
    return call("predict", *sources, *options)


def results(output: Path) -> list[dict[str, Any]]:
    """Return the results, which both files hold."""
    found: list[dict[str, Any]] = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    lines = (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == found
    return found


def predicted(output: Path) -> list[str]:
    """Return the names of the images that have results."""
    return list(dict.fromkeys(Path(result["file_name"]).name for result in results(output)))


def test_a_reader_that_goes_away_loses_nothing(model: Path, tmp_path: Path) -> None:
    for number in range(20):
        draw(tmp_path / f"{number:02d}.png")
    command = [sys.executable, "-m", "anchordetr", "predict", f"{tmp_path}/*.png", "--weights", str(model)]
    process = subprocess.Popen(
        [*command, "--threshold", "0", "--output-dir", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    assert "00.png: " in process.stdout.readline()
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, "")
    process.stderr.close()
    assert len(predicted(tmp_path / "out")) == 20


def test_broken_images_are_listed_after_the_others_were_predicted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.png").write_bytes(b"no image")
    os.mkfifo(tmp_path / "d.png")
    sources = [draw(tmp_path / "a.png"), tmp_path / "b.png", draw(tmp_path / "c.png"), tmp_path / "d.png", "/dev/zero"]
    sources.append("http://127.0.0.1:9/e.png")
    assert predict(model, tmp_path / "out", *sources) == 1
    error = capsys.readouterr().err
    assert "b.png is not an image" in error
    assert "d.png is a named pipe" in error
    last = error.splitlines()[-1]
    assert last.startswith("anchordetr: 4 of 6 images could not be read: ")
    assert all(name in last for name in ("b.png", "d.png", "/dev/zero", "http://127.0.0.1:9/e.png"))
    assert predicted(tmp_path / "out") == ["a.png", "c.png"]
    assert {result["image_id"] for result in results(tmp_path / "out")} == {1, 3}
    assert predict(model, tmp_path / "out", *sources, "--skip-broken") == 0
    assert "4 of 6 images were skipped." in capsys.readouterr().err
    assert predicted(tmp_path / "out") == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "Interrupted."), (MemoryError("no memory"), 1, "not enough memory")],
)
def test_an_interruption_keeps_what_was_found(
    error: BaseException,
    code: int,
    said: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(detections: Detections, image_id: int) -> list[dict[str, Any]]:
        if image_id == 3:
            assert (tmp_path / "out" / "predictions.jsonl").read_text().count("b.png") == 4 * 3
            raise error
        return to_coco(detections, image_id)

    to_coco = Detections.to_coco
    monkeypatch.setattr(Detections, "to_coco", stop)
    assert predict(model, tmp_path / "out", *(draw(tmp_path / f"{name}.png") for name in "abcd")) == code
    assert said in capsys.readouterr().err
    assert predicted(tmp_path / "out") == ["a.png", "b.png"]


def test_an_interruption_waits_for_no_address(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sources = [str(draw(tmp_path / "a.png")), f"http://127.0.0.1:{silent.getsockname()[1]}/b.png"]
        options = [
            "--weights",
            str(model),
            "--threshold",
            "0",
            "--batch-size",
            "1",
            "--output-dir",
            str(tmp_path / "out"),
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "anchordetr", "predict", *sources, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout
            assert process.stderr
            assert "a.png: " in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130  # an address may take 60 seconds
            assert "Traceback" not in process.stderr.read()
    assert predicted(tmp_path / "out") == ["a.png"]


def test_a_drawing_that_fails_is_a_warning(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Detections, "plot", disk_full)
    assert predict(model, tmp_path / "out", draw(tmp_path / "a.png"), draw(tmp_path / "b.png")) == 0
    assert "a.png was not drawn: [Errno 28] No space left on device." in capsys.readouterr().err
    assert predicted(tmp_path / "out") == ["a.png", "b.png"]


def test_a_full_disk_at_the_end_says_where_the_results_are(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anchordetr.cli.prediction_formats.write_json", disk_full)
    assert predict(model, tmp_path / "out", draw(tmp_path / "a.png")) == 1
    error = capsys.readouterr().err
    assert "predictions.json could not be written (No space left on device); the results" in error
    assert (tmp_path / "out" / "predictions.jsonl").read_text().count("a.png") == 4 * 3


@pytest.mark.parametrize(("height", "width"), [(1, 70_000), (70_000, 1)])
def test_an_image_longer_than_a_jpeg_can_be(height: int, width: int, model: Path, tmp_path: Path) -> None:
    draw(tmp_path / "long.png", height, width)
    assert predict(model, tmp_path / "out", tmp_path / "long.png", draw(tmp_path / "other.png")) == 0
    assert predicted(tmp_path / "out") == ["long.png", "other.png"]
    with Image.open(tmp_path / "out" / "0001_long.png") as drawing:
        assert drawing.size == (width, height)


def test_names_of_any_length_and_any_bytes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [os.fsdecode(name) for name in (b"n" * 246 + b".png", b"\xff\xe4.png", b"\x1b[31m\n.png", "ü".encode())]
    content = draw(tmp_path / "a.png").read_bytes()
    for name in names:
        (tmp_path / name).write_bytes(content)
    output = tmp_path / "out"
    assert predict(model, output, *(tmp_path / name for name in names), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == results(output)
    assert predicted(output) == names
    assert len(list(output.glob("*.jpg"))) == 4
    assert all(file.name.isprintable() for file in output.iterdir())
    assert predict(model, output, *(tmp_path / name for name in names)) == 0
    assert "\\x1b[31m\\n.png: " in capsys.readouterr().out


@pytest.mark.parametrize("blocked", ["out", "out/predictions.json", "out/predictions.jsonl"])
def test_an_output_folder_is_checked_before_the_model_is_loaded(
    blocked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if blocked == "out":
        (tmp_path / blocked).touch()
    else:
        (tmp_path / blocked).mkdir(parents=True)
    assert predict(tmp_path / "no model", tmp_path / "out", draw(tmp_path / "a.png")) == 1
    assert blocked in capsys.readouterr().err


@pytest.mark.parametrize("source", ["empty", "*.gif", "empt*", "none.png"])
def test_a_source_without_images_ends_with_an_error(source: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert predict(tmp_path / "no model", tmp_path / "out", tmp_path / source) == 1
    assert not (tmp_path / "out").exists()

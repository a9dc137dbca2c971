"""``anchordetr doctor``: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import call
from PIL import Image


@pytest.fixture
def faulty(coco_folder: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(coco_folder, tmp_path / "data"))
    file = folder / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [5, 5, 0, 5]
    content["categories"][0]["name"] = "[red] Kreis ü"
    file.write_text(json.dumps(content))
    train = folder / "annotations" / "instances_train.json"
    content = json.loads(train.read_text())
    content["categories"][0]["name"] = "[red] Kreis ü"
    train.write_text(json.dumps(content))
    return folder


def test_clean_data_exits_0_with_tables_and_samples(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("doctor", coco_folder, "--samples", tmp_path / "new" / "page.png") == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("rectangle", "objects per image", "box width", "Clean."))
    with Image.open(tmp_path / "new" / "page.png") as page:
        assert page.width > 1000


def test_problems_exit_1_and_are_named(faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", faulty, "--samples", tmp_path / "page.png") == 1
    printed = capsys.readouterr().out
    assert "annotation 1" in printed
    assert "[red] Kreis ü" in printed
    assert "Problems were found" in printed


def test_json_is_for_machines(faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", faulty, "--samples", tmp_path / "page.png", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["clean"], report["layout"]) == (False, "coco")
    assert [(f["split"], f["kind"], f["count"], f["names"]) for f in report["findings"]] == [
        ("val", "no_area", 1, ["annotation 1"])
    ]
    assert report["splits"]["train"]["images"] == 8


def test_fix_writes_a_copy_and_lists_every_change(
    faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ["--samples", tmp_path / "page.png"]
    assert call("doctor", faulty, "--fix", tmp_path / "fixed", *page) == 1
    printed = capsys.readouterr()
    assert "Problems were found" in printed.out
    assert "val would lose 1 of 11 boxes" in printed.err
    assert not (tmp_path / "fixed").exists()
    assert call("doctor", faulty, "--fix", tmp_path / "fixed", "--yes", *page) == 1
    printed = capsys.readouterr().out
    assert "val: annotation 1: annotation left out: its box has no area inside the image" in printed
    assert "1 changes; the repaired copy is" in printed
    assert call("doctor", tmp_path / "fixed", *page) == 0
    assert call("doctor", faulty, "--fix", tmp_path / "fixed", *page) == 1
    assert "is not empty; choose a new folder" in capsys.readouterr().err
    assert call("doctor", faulty, "--fix", tmp_path / "again", "--yes", *page, "--json") == 1
    assert [change["name"] for change in json.loads(capsys.readouterr().out)["changes"]] == ["annotation 1"]


def test_the_models_queries_are_the_limit(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchordetr.config.ModelConfig.num_queries", 1)
    assert call("doctor", coco_folder, "--samples", tmp_path / "page.png", "--json") == 1
    kinds = {finding["kind"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert kinds == {"too_many_objects"}


def test_a_page_of_augmentations_with_the_given_settings(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["doctor", coco_folder, "--samples", tmp_path / "page.png", "--model", "anchordetr_tiny", "--json"]

    def drawn(name: str, *changes: str) -> bytes:
        assert call(*arguments, "--augmentations", tmp_path / "new" / name, *changes) == 0
        assert json.loads(capsys.readouterr().out)["augmentations"] == str(tmp_path / "new" / name)
        with Image.open(tmp_path / "new" / name) as page:
            assert page.width > 1000
            return page.tobytes()

    assert drawn("one.png") == drawn("two.png") != drawn("three.png", "--set", "data.mosaic=1")
    assert call(*arguments, "--set", "model.num_anchors=1", "--set", "model.num_patterns=1") == 1
    report = json.loads(capsys.readouterr().out)
    assert "augmentations" not in report
    assert {finding["kind"] for finding in report["findings"]} == {"too_many_objects"}


def test_a_page_of_augmentations_that_cannot_be_drawn_leaves_the_report(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(coco_folder, tmp_path / "data"))
    for file in (folder / "train").iterdir():
        file.write_bytes(b"")
    pages = ["--samples", tmp_path / "page.png", "--augmentations", tmp_path / "more.png"]
    assert call("doctor", folder, *pages) == 1
    printed = capsys.readouterr()
    assert "Problems were found" in printed.out
    assert "Augmentations were not drawn: " in printed.err
    assert not (tmp_path / "more.png").exists()
    assert call("doctor", folder, *pages[:2], "--augmentations", tmp_path / "page") == 2
    assert "--augmentations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none"], 1, "none does not exist"),
        (["."], 1, "has no known data layout. Looked for: coco"),
        (["shapes"], 1, "is not in files"),
        ([".", "--layout", "coko"], 2, "Did you mean 'coco'"),
        ([".", "--model", "anchordetr_tny"], 2, "Did you mean 'anchordetr_tiny'"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_a_mistake_prints_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("doctor", *arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_files_and_output_are_utf8_whatever_the_locale(faulty: Path, tmp_path: Path) -> None:
    """In the C locale without Python's UTF-8 mode, what is opened without an encoding is ASCII."""
    for file in (faulty / "annotations").iterdir():
        file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False), encoding="utf-8")
    command = [
        sys.executable,
        "-X",
        "utf8=0",
        "-m",
        "anchordetr",
        "doctor",
        str(faulty),
        "--fix",
        str(tmp_path / "new"),
        "--yes",
    ]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": path}
    command += ["--samples", str(tmp_path / "page.png"), "--json"]
    result = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (result.returncode, result.stderr) == (1, b"")
    assert "[red] Kreis ü" in json.loads(result.stdout.decode("utf-8"))["splits"]["val"]["classes"]
    fixed = json.loads((tmp_path / "new" / "annotations" / "instances_val.json").read_text(encoding="utf-8"))
    assert fixed["categories"][0]["name"] == "[red] Kreis ü"


@pytest.mark.parametrize("name", ["page", "page.html", "folder.png"])
def test_a_page_of_another_format_is_refused_before_the_examination(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    assert call("doctor", tmp_path / "nothing", "--samples", tmp_path / name) == 2
    assert "give the name of an image file, which ends in .png or" in capsys.readouterr().err


def test_without_a_place_for_samples_the_report_is_printed(
    coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").touch()
    monkeypatch.chdir(tmp_path)
    assert call("doctor", coco_folder) == 0
    printed = capsys.readouterr()
    assert "Clean." in printed.out
    assert "Samples:" not in printed.out
    assert "Samples are not drawn: runs/doctor cannot be written" in printed.err
    assert call("doctor", coco_folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["samples"] is None


def test_an_error_of_the_drawing_leaves_the_report(
    coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("PIL.Image.Image.save", lambda *arguments: 1 / 0)
    assert call("doctor", coco_folder, "--samples", tmp_path / "page.png") == 0
    printed = capsys.readouterr()
    assert "Clean." in printed.out
    assert "Samples were not drawn: division by zero." in printed.err


def test_an_output_folder_that_is_in_use_is_refused_before_the_examination(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    page = ["--samples", tmp_path / "page.png"]
    assert call("doctor", tmp_path / "nothing", "--fix", tmp_path, *page) == 1
    assert "is not empty" in capsys.readouterr().err
    assert call("doctor", tmp_path / "nothing", "--fix", tmp_path / "file", *page) == 1
    assert "is no folder" in capsys.readouterr().err


def test_names_are_shown_as_they_are_without_control_characters(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(coco_folder, tmp_path / "data"))
    for file in (folder / "annotations").iterdir():
        content = json.loads(file.read_text())
        content["categories"][0]["name"] = "[/bold]\x1b[31m\\"
        content["images"][0]["file_name"] = "[red]\x1b]0;x\x07.png"
        file.write_text(json.dumps(content))
    for split in ("train", "val"):
        (folder / split).rename(folder / f"[b]{split}")
        file = folder / "annotations" / f"instances_{split}.json"
        file.rename(file.with_name(f"instances_[b]{split}.json"))
    assert call("doctor", folder, "--fix", tmp_path / "fixed", "--yes", "--samples", tmp_path / "page.png") == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert all(part in printed for part in ("[b]val", "[/bold]\\x1b[31m\\", "[red]\\x1b]0;x\\x07.png"))


def test_augmentations_without_a_file_are_drawn_to_the_default_one(
    coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("doctor", coco_folder.resolve(), "--augmentations") == 0
    assert (tmp_path / "runs" / "doctor" / "augmentations.png").stat().st_size > 1000

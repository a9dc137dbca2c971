"""The published models and their cache."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from checkpoints import detrex, original_weights
from commands import call
from file_server import Server
from PIL import Image

from anchordetr import Detector
from anchordetr.errors import InputError
from anchordetr.locks import Lock
from anchordetr.weights.checksums import remember, sha256
from anchordetr.weights.folder import WEIGHTS_FILE
from anchordetr.weights.published import PUBLISHED
from anchordetr.weights.zoo import fetch

NAME = "anchordetr_r50_dc5"
FILE = PUBLISHED[NAME].file
Mirror = tuple[Server, Path, dict[str, torch.Tensor]]


@pytest.fixture
def mirror(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Server, Path, dict[str, torch.Tensor]]:
    """A server of a small model under the published name, and an empty cache folder."""
    state = detrex(original_weights())
    torch.save({"model": state}, tmp_path / "built.pth")
    server.content = (tmp_path / "built.pth").read_bytes()
    monkeypatch.setenv("ANCHORDETR_MIRROR", server.address)
    monkeypatch.setenv("ANCHORDETR_HOME", str(tmp_path / "home"))
    return server, tmp_path / "home", state


def test_a_published_model_is_downloaded_and_converted_once(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, home, state = mirror
    server.faults = ["aborted"]
    image = tmp_path / "street.png"
    Image.new("RGB", (90, 60)).save(image)
    arguments = ["predict", image, "--weights", NAME, "--output-dir", tmp_path / "out", "--device", "cpu"]
    assert call(*arguments) == 0
    assert f"SHA-256 of {FILE}: {sha256(tmp_path / 'built.pth')}" in capsys.readouterr().err
    assert call(*arguments, "--overwrite") == 0
    assert len(server.ranges) == 2
    assert {path.name for path in home.iterdir() if path.suffix != ".lock"} == {NAME, "checksums.json"}

    detector = Detector.from_pretrained(NAME, device="cpu")
    assert detector.config.model.features == "dc5"
    assert detector.origin["source"] == f"{server.address}/{FILE}"
    torch.testing.assert_close(
        detector.model.state_dict()["heads.class_head.bias"], state["transformer.class_embed.0.bias"], atol=0, rtol=0
    )


def test_list_models_shows_published_and_cached_weights(mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(NAME)
    capsys.readouterr()
    assert call("list-models", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name for name, row in rows.items() if row["weights"]} == set(PUBLISHED)
    assert {name for name, row in rows.items() if row["cached"]} == {NAME}


def test_changed_weights_in_the_cache_are_downloaded_again(mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    server, home, _ = mirror
    first = {name: tensor.clone() for name, tensor in fetch(NAME).weights.items()}
    file = home / NAME / WEIGHTS_FILE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    again = fetch(NAME)
    assert "has changed" in capsys.readouterr().err
    assert len(server.ranges) == 2
    assert all(torch.equal(tensor, again.weights[name]) for name, tensor in first.items())


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": 1}', b"\xff\xfe"])
def test_damaged_checksums_are_reported_and_made_anew(
    content: bytes, mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    server, home, _ = mirror
    fetch(NAME)
    before = json.loads((home / "checksums.json").read_text())
    (home / "checksums.json").write_bytes(content)
    capsys.readouterr()
    fetch(NAME)
    assert "checksums.json" in capsys.readouterr().err
    assert json.loads((home / "checksums.json").read_text()) == before
    assert len(server.ranges) == 1


@pytest.mark.parametrize("content", ["", "[1]", '{"model": {"num_anchors": -3}}', "{" * 5000])
def test_a_damaged_configuration_in_the_cache_is_not_needed(content: str, mirror: Mirror) -> None:
    server, home, _ = mirror
    first = fetch(NAME)
    (home / NAME / "config.json").write_text(content)
    again = fetch(NAME)
    assert (again.config, again.class_names) == (first.config, first.class_names)
    assert len(server.ranges) == 1


def test_models_fetched_side_by_side_keep_all_checksums(mirror: Mirror) -> None:
    _, home, _ = mirror
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(fetch, PUBLISHED))
    assert len(saved) == 4
    keys = {f"{name}/{WEIGHTS_FILE}" for name in PUBLISHED} | {weights.file for weights in PUBLISHED.values()}
    assert json.loads((home / "checksums.json").read_text()).keys() == keys


def test_a_process_and_threads_add_checksums_at_the_same_time(tmp_path: Path) -> None:
    file = tmp_path / "checksums.json"
    program = "import sys; from pathlib import Path; from anchordetr.weights.checksums import remember\n" + (
        "for n in range(20): remember(Path(sys.argv[1]), {f'{sys.argv[2]}.{n}': 'x'})"
    )
    process = subprocess.Popen([sys.executable, "-c", program, file, "process"])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: remember(file, {f"thread {number}": "x"}), range(40)))
    assert process.wait() == 0
    assert len(json.loads(file.read_text())) == 60


def test_a_cache_that_cannot_be_written_is_read(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    _, home, _ = mirror
    fetch(NAME)
    (home / "checksums.json").unlink()

    def refuse(lock: Lock, wait: bool = False) -> None:
        raise PermissionError(30, "Read-only file system", str(lock.path))

    monkeypatch.setattr(Lock, "acquire", refuse)
    assert fetch(NAME).origin["metrics"] == {"ap": 0.442}
    with pytest.raises(InputError, match=r"cache folder .* cannot be used: .*Read-only.*ANCHORDETR_HOME"):
        fetch("anchordetr_r50_c5")


def test_a_file_in_place_of_the_cache_folder_is_named(mirror: Mirror) -> None:
    _, home, _ = mirror
    home.write_text("")
    with pytest.raises(InputError, match=r"home cannot be used.*ANCHORDETR_HOME"):
        fetch(NAME)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><p>Sign in", b""], ids=["web page", "empty"])
def test_something_else_than_weights_is_not_kept(content: bytes, mirror: Mirror) -> None:
    server, home, _ = mirror
    server.content = content
    with pytest.raises(InputError, match=f"{FILE}.*(web page|empty)"):
        fetch(NAME)
    assert not (home / FILE).exists()


def test_a_published_file_that_changed_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    server, home, _ = mirror
    fetch(NAME)
    (home / NAME / WEIGHTS_FILE).unlink()
    torch.save({"model": detrex(original_weights()), "iteration": 1}, tmp_path / "other.pth")
    server.content = (tmp_path / "other.pth").read_bytes()
    with pytest.raises(InputError, match=r"SHA-256.*checksums\.json"):
        fetch(NAME)
    assert not (home / NAME / WEIGHTS_FILE).exists()


def test_a_damaged_download_is_removed(mirror: Mirror) -> None:
    server, home, _ = mirror
    server.faults = ["too short"]
    with pytest.raises(InputError, match="damaged"):
        fetch(NAME)
    assert not (home / FILE).exists()
    fetch(NAME)


def test_without_a_network_the_url_and_the_alternative_are_named(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ANCHORDETR_MIRROR", "http://127.0.0.1:1")
    assert call("eval", "--weights", NAME, "--data", "shapes", "--output-dir", tmp_path) == 1
    error = capsys.readouterr().err
    assert f"http://127.0.0.1:1/{FILE}" in error
    assert "fetch it by hand" in error
    torch.save({"model": detrex(original_weights())}, tmp_path / FILE)
    assert Detector.from_pretrained(tmp_path / FILE, device="cpu").config.model.features == "dc5"


def test_the_published_urls() -> None:
    release = "https://github.com/IDEA-Research/detrex-storage/releases/download/v0.3.0/"
    assert {name: (weights.url, weights.ap) for name, weights in PUBLISHED.items()} == {
        "anchordetr_r50_c5": (release + "converted_anchor_detr_r50_50ep.pth", 0.422),
        "anchordetr_r50_dc5": (release + "converted_anchor_detr_r50_dc5_50ep.pth", 0.442),
        "anchordetr_r101_c5": (release + "converted_anchor_detr_r101_50ep.pth", 0.435),
        "anchordetr_r101_dc5": (release + "converted_anchor_detr_r101_dc5_50ep.pth", 0.451),
    }

"""The published models and their cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoints import detrex, original_weights
from commands import call
from file_server import Server
from PIL import Image

from anchordetr import Detector
from anchordetr.errors import InputError
from anchordetr.weights.checksums import sha256
from anchordetr.weights.saved_model import WEIGHTS_FILE
from anchordetr.weights.zoo import PUBLISHED, fetch

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
    assert call(*arguments) == 0
    assert len(server.ranges) == 2
    assert sorted(path.name for path in home.iterdir()) == [
        NAME,
        f"{NAME}.lock",
        "checksums.json",
        "checksums.json.lock",
    ]

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

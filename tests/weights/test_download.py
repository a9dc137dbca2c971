"""Fetching from servers that break off and lie, and the published models."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from commands import call
from PIL import Image
from test_official import detrex, original_weights

from anchordetr import Detector
from anchordetr.errors import InputError
from anchordetr.weights import download as download_module
from anchordetr.weights.download import download
from anchordetr.weights.saved_model import WEIGHTS_FILE
from anchordetr.weights.zoo import PUBLISHED, fetch, sha256

NAME = "anchordetr_r50_dc5"
FILE = PUBLISHED[NAME].file


class Server(ThreadingHTTPServer):
    """Serves ``content`` under every name; ``faults`` are used up, one a request."""

    daemon_threads = True
    content = b""
    version = '"first"'
    faults: list[str]
    ranges: list[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        fault = self.server.faults.pop(0) if self.server.faults else ""
        wanted = self.headers.get("Range", "")
        self.server.ranges.append(wanted)
        content, start = self.server.content, 0
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if wanted and self.headers.get("If-Range") == self.server.version and fault != "no ranges":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            shown = start + 5 if fault == "another part" else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if fault != "no version":
            self.send_header("ETag", self.server.version)
        body = content[start:]
        lengths = {"says more": len(body) + 1000, "says less": len(body) // 2}
        self.send_header("Content-Length", str(lengths.get(fault, len(body))))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in ("breaks off", "no version") else body)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "_PAUSE", 0.0)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content, server.faults, server.ranges = bytes(range(256)) * 5000, [], []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    "faults",
    [
        [],
        ["breaks off", "breaks off", "breaks off"],
        ["503", "breaks off", "500"],
        ["breaks off", "no ranges"],
        ["breaks off", "another part", "breaks off"],
        ["no version", "no version"],
        ["says more"],
        ["says more", "breaks off"],
    ],
    ids=", ".join,
)
def test_the_file_arrives_whole(faults: list[str], server: Server, tmp_path: Path) -> None:
    server.faults = faults.copy()
    seen: list[tuple[int, int | None]] = []
    download(f"{server.address}/file", tmp_path / "new" / "file", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "new" / "file").read_bytes() == server.content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert seen[-1] == (len(server.content), len(server.content))
    assert server.faults == []


def test_an_interrupted_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{server.address}/file", tmp_path / "file", interrupt)
    kept = (tmp_path / "file.part").stat().st_size
    assert 0 < kept < len(server.content)
    download(f"{server.address}/file", tmp_path / "file")
    assert server.ranges == ["", f"bytes={kept}-"]
    assert (tmp_path / "file").read_bytes() == server.content


def test_parts_of_two_versions_are_never_joined(server: Server, tmp_path: Path) -> None:
    server.faults = ["breaks off", "404"]
    with pytest.raises(OSError, match="404"):
        download(f"{server.address}/file", tmp_path / "file")
    assert (tmp_path / "file.part").exists()
    server.content, server.version = b"another version" * 100_000, '"second"'
    download(f"{server.address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content


@pytest.mark.parametrize("fault", ["says more", "500", "no version"])
def test_a_server_that_never_gets_better_is_given_up(fault: str, server: Server, tmp_path: Path) -> None:
    server.faults = [fault] * 100
    with pytest.raises(OSError, match=r"after|500|less"):
        download(f"{server.address}/file", tmp_path / "file")
    assert not (tmp_path / "file").exists()


# ---------------------------------------------------------------- the published models


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


Mirror = tuple[Server, Path, dict[str, torch.Tensor]]


def test_a_published_model_is_fetched_and_converted_once(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, home, state = mirror
    server.faults = ["breaks off"]
    image = tmp_path / "street.png"
    Image.new("RGB", (90, 60)).save(image)
    arguments = ["predict", image, "--weights", NAME, "--output-dir", tmp_path / "out", "--device", "cpu"]
    assert call(*arguments) == 0
    assert f"SHA-256 of {FILE}: {sha256(tmp_path / 'built.pth')}" in capsys.readouterr().err
    assert call(*arguments) == 0
    assert len(server.ranges) == 2
    assert sorted(path.name for path in home.iterdir()) == [NAME, f"{NAME}.lock", "checksums.json"]

    detector = Detector.from_pretrained(NAME, device="cpu")
    assert detector.config.model.features == "dc5"
    assert detector.origin["source"] == f"{server.address}/{FILE}"
    torch.testing.assert_close(
        detector.model.state_dict()["heads.class_head.bias"], state["transformer.class_embed.0.bias"], atol=0, rtol=0
    )


def test_list_models_names_what_can_be_fetched(mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(NAME)
    capsys.readouterr()
    assert call("list-models", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name for name, row in rows.items() if row["weights"]} == set(PUBLISHED)
    assert {name for name, row in rows.items() if row["cached"]} == {NAME}


def test_changed_weights_in_the_cache_are_fetched_again(mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_another_file_than_at_first_use_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    server, home, _ = mirror
    fetch(NAME)
    (home / NAME / WEIGHTS_FILE).unlink()
    torch.save({"model": detrex(original_weights()), "iteration": 1}, tmp_path / "other.pth")
    server.content = (tmp_path / "other.pth").read_bytes()
    with pytest.raises(InputError, match=r"not the one remembered.*checksums\.json"):
        fetch(NAME)
    assert not (home / NAME / WEIGHTS_FILE).exists()


def test_a_server_that_says_less_leaves_nothing_behind(mirror: Mirror) -> None:
    server, home, _ = mirror
    server.faults = ["says less"]
    with pytest.raises(InputError, match="damaged"):
        fetch(NAME)
    assert not (home / FILE).exists()
    fetch(NAME)


def test_without_a_network_the_address_and_the_way_out_are_named(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ANCHORDETR_MIRROR", "http://127.0.0.1:1")
    assert call("eval", "--weights", NAME, "--data", "shapes", "--output-dir", tmp_path) == 1
    error = capsys.readouterr().err
    assert f"http://127.0.0.1:1/{FILE}" in error
    assert "fetch it by hand" in error
    torch.save({"model": detrex(original_weights())}, tmp_path / FILE)
    assert Detector.from_pretrained(tmp_path / FILE, device="cpu").config.model.features == "dc5"


def test_the_published_addresses() -> None:
    release = "https://github.com/IDEA-Research/detrex-storage/releases/download/v0.3.0/"
    assert {name: (weights.url, weights.ap) for name, weights in PUBLISHED.items()} == {
        "anchordetr_r50_c5": (release + "converted_anchor_detr_r50_50ep.pth", 0.422),
        "anchordetr_r50_dc5": (release + "converted_anchor_detr_r50_dc5_50ep.pth", 0.442),
        "anchordetr_r101_c5": (release + "converted_anchor_detr_r101_50ep.pth", 0.435),
        "anchordetr_r101_dc5": (release + "converted_anchor_detr_r101_dc5_50ep.pth", 0.451),
    }

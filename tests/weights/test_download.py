"""Downloads from servers that fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from file_server import Server

from anchordetr.weights import download as download_module
from anchordetr.weights.download import download


@pytest.mark.parametrize(
    "faults",
    [
        [],
        ["aborted", "aborted", "aborted"],
        ["503", "aborted", "500"],
        ["aborted", "no ranges"],
        ["aborted", "wrong range", "aborted"],
        ["no version", "no version"],
        ["too long"],
        ["too long", "aborted"],
    ],
    ids=", ".join,
)
def test_the_complete_file_is_downloaded(faults: list[str], server: Server, tmp_path: Path) -> None:
    server.faults = faults.copy()
    seen: list[tuple[int, int | None]] = []
    download(f"{server.address}/file", tmp_path / "new" / "file", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "new" / "file").read_bytes() == server.content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert seen[-1] == (len(server.content), len(server.content))
    assert server.faults == []


def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path) -> None:
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


def test_parts_of_two_versions_are_never_combined(server: Server, tmp_path: Path) -> None:
    server.faults = ["aborted", "404"]
    with pytest.raises(OSError, match="404"):
        download(f"{server.address}/file", tmp_path / "file")
    assert (tmp_path / "file.part").exists()
    server.content, server.version = b"another version" * 100_000, '"second"'
    download(f"{server.address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content


@pytest.mark.parametrize("fault", ["too long", "500", "no version"])
def test_a_server_that_keeps_failing_is_an_error(fault: str, server: Server, tmp_path: Path) -> None:
    server.faults = [fault] * 100
    with pytest.raises(OSError, match=r"after|500|less"):
        download(f"{server.address}/file", tmp_path / "file")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/file", "mirror/file", "data:,x"])
def test_other_addresses_than_http_are_refused(address: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="unknown url type"):
        download(address, tmp_path / "file")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/file", "file:///etc/hostname"])
def test_redirects_to_other_schemes_are_refused(address: str, server: Server, tmp_path: Path) -> None:
    server.faults = [f"302 {address}"] * 4
    with pytest.raises(OSError, match=r"unknown url type|302"):
        download(f"{server.address}/file", tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_more_bytes_than_are_taken_end_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "_MOST_BYTES", 1000)
    with pytest.raises(OSError, match=r"1,280,000 bytes; at most 1,000"):
        download(f"{server.address}/file", tmp_path / "file")
    server.faults = ["no length"]
    with pytest.raises(OSError, match="more than"):
        download(f"{server.address}/file", tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "file.part").exists()

"""Files: what is read, listed and named, and that writing is atomic."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anchordetr.errors import InputError, WriteError
from anchordetr.files import list_files, read_bytes, read_text, safe_name, write_json, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log.jsonl"
    write_text(file, "old")

    def disk_full(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_regular_files_are_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    make(file)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    for name in (file, link):
        with pytest.raises(WriteError, match=f"{name.name} is a (named pipe|folder) and is not replaced"):
            write_json(name, {})
    assert not file.is_file()
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [link, file]


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    pipe, plug = tmp_path / "pipe", tmp_path / "plug"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(plug))
        for file, kind in (
            (pipe, "a named pipe"),
            (plug, "a socket"),
            (tmp_path, "a folder"),
            (Path("/dev/zero"), "a device"),
            (tmp_path / "nothing", "does not exist"),
            (tmp_path / "a\0b", "null"),
            (tmp_path / ("x" * 300), "name too long"),
        ):
            with pytest.raises(InputError, match=f"(?i){kind}"):
                read_bytes(file, 10)


def test_large_files_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(b"x" * 11)
    assert read_bytes(file, 11) == b"x" * 11
    with pytest.raises(InputError, match=r"labels\.txt has 11 bytes; at most 10"):
        read_bytes(file, 10)


def test_a_read_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(b"x" * 10)
    assert read_bytes(file, sys.maxsize) == b"x" * 10


def test_a_file_that_is_larger_than_it_says_is_read_or_refused() -> None:
    file = Path("/proc/self/status")
    if not file.exists():
        pytest.skip("needs Linux")
    assert b"Name:" in read_bytes(file, 100_000)
    with pytest.raises(InputError, match="at most 10 are read"):
        read_bytes(file, 10)


def test_text_is_utf8(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffkäfer".encode())
    assert read_text(file, 100) == "käfer"
    file.write_bytes("käfer".encode("latin-1"))
    with pytest.raises(InputError, match=r"labels\.txt is not a text file in UTF-8"):
        read_text(file, 100)


def test_listings_leave_out_hidden_files_and_follow_links(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for file in (
        data / "b.JPG",
        data / "a.jpg",
        data / "._a.jpg",
        data / "Thumbs.db",
        data / ".ipynb_checkpoints" / "a-checkpoint.jpg",
        data / "deep" / "c.jpg",
        elsewhere / "d.jpg",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (data / "folder.jpg").mkdir()
    (data / "link").symlink_to(elsewhere)
    (data / "loop").symlink_to(data)
    (data / "broken.jpg").symlink_to(tmp_path / "nothing.jpg")
    os.mkfifo(data / "pipe.jpg")
    assert list_files(data, {".jpg"}) == [data / "a.jpg", data / "b.JPG"]
    nested = [data / "a.jpg", data / "b.JPG", data / "deep" / "c.jpg", data / "link" / "d.jpg"]
    assert list_files(data, {".jpg"}, recursive=True) == nested
    with pytest.raises(InputError, match="nothing cannot be listed"):
        list_files(tmp_path / "nothing", {".jpg"})


def test_names_are_safe_and_distinct(tmp_path: Path) -> None:
    given = ["../x.png", "2/x.png", "X.png", "/etc/passwd", r"C:\a\b.jpg", "..", "", "a\nb\x1b.jpg"]
    given += ["ä" * 250 + ".jpeg", "ä" * 250 + ".jpeg", "\ud800.jpg", "." * 9, "con:aux?.jpg", "x." + "y" * 300]
    taken: set[str] = set()
    names = [safe_name(name, taken) for name in given]
    assert names[:7] == ["x.png", "x_2.png", "X_3.png", "passwd", "b.jpg", "unnamed", "unnamed_2"]
    assert names[8].endswith("ä.jpeg")
    assert names[9].endswith("ä_2.jpeg")
    for name in names:
        assert len(name.encode()) <= 150
        (tmp_path / name).touch(exist_ok=False)
    assert len(list(tmp_path.iterdir())) == len({name.lower() for name in names}) == len(given)

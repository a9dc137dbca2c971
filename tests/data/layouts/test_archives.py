"""Data sets in ``.zip`` files."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts import archives
from anchordetr.data.layouts.archives import unpacked
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError


def pack(folder: Path, archive: Path, prefix: str = "") -> Path:
    with ZipFile(archive, "w") as opened:
        for file in sorted(folder.rglob("*")):
            opened.write(file, prefix + file.relative_to(folder).as_posix())
    return archive


def write(archive: Path, entries: dict[str, bytes]) -> Path:
    with ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in entries.items():
            opened.writestr(name, content)
    return archive


@pytest.mark.parametrize("prefix", ["", "pets/", "a/b/"])
@pytest.mark.parametrize("layout", ["coco", "roboflow", "yolo", "voc"])
def test_every_layout_is_read_from_an_archive(
    layout: str, prefix: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"{layout}_folder")
    archive = pack(folder, tmp_path / "pets.zip", prefix)
    expected, dataset = open_dataset(folder, "train"), open_dataset(archive, "train")
    assert dataset.class_names == expected.class_names
    assert (dataset.annotations.boxes == expected.annotations.boxes).all()
    assert (dataset.image(0) == expected.image(0)).all()
    assert examine(archive).data == archive


def test_an_archive_is_unpacked_once_and_the_place_is_said(
    coco_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = pack(coco_folder, tmp_path / "pets.zip")
    folder = unpacked(archive)
    assert f"{archive} is unpacked to {folder}" in caplog.text
    caplog.clear()
    (folder / "mine.txt").write_text("kept")
    assert unpacked(archive) == folder
    assert caplog.text == ""
    assert (folder / "mine.txt").read_text() == "kept"
    assert not [file for file in tmp_path.iterdir() if file.is_dir() and file != folder]


def test_a_changed_archive_is_unpacked_elsewhere(tmp_path: Path) -> None:
    first = unpacked(write(tmp_path / "pets.zip", {"data.yaml": b"a", "b": b""}))
    second = unpacked(write(tmp_path / "pets.zip", {"data.yaml": b"c", "b": b""}))
    assert first != second
    assert [(folder / "data.yaml").read_bytes() for folder in (first, second)] == [b"a", b"c"]


def test_a_folder_of_the_user_with_the_name_of_the_archive_stays(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "data.yaml").write_text("mine")
    assert unpacked(write(tmp_path / "pets.zip", {"data.yaml": b"theirs", "b": b""})) != tmp_path / "pets"
    assert (tmp_path / "pets" / "data.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:/evil.txt", "C:evil.txt", "a//b.txt", "./a.txt", "a/./b"],
)
def test_names_that_may_lead_out_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive = write(tmp_path / "in" / "pets.zip", {"data.yaml": b"", name: b""})
    with pytest.raises(InputError, match=r"the entry '.*' has a name that may lead out.*nothing was unpacked"):
        unpacked(archive)
    assert [file.name for file in tmp_path.rglob("*")] == ["in", "pets.zip"]


def test_backslashes_are_refused(tmp_path: Path) -> None:
    archive = write(tmp_path / "pets.zip", {"a_.._evil.txt": b""})
    archive.write_bytes(archive.read_bytes().replace(b"a_.._evil", b"a\\..\\evil"))
    with pytest.raises(InputError, match="may lead out"):
        unpacked(archive)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR], ids=["link", "pipe", "device"])
def test_links_and_special_files_are_refused(kind: int, tmp_path: Path) -> None:
    entry = ZipInfo("images")
    entry.external_attr = (kind | 0o777) << 16
    with ZipFile(tmp_path / "pets.zip", "w") as opened:
        opened.writestr(entry, "/etc")
    with pytest.raises(InputError, match=r"'images' is a link or another special file"):
        unpacked(tmp_path / "pets.zip")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a.txt", "A.TXT"], "'A.TXT' is there twice"), (["a", "a/b.txt"], "'a' is a file and a folder")],
)
def test_names_that_collide_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        unpacked(write(tmp_path / "pets.zip", dict.fromkeys(names, b"")))


def test_content_that_shrinks_too_well_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED", 2**20)
    archive = write(tmp_path / "pets.zip", {"zeros.bmp": bytes(2**24)})
    with pytest.raises(InputError, match=r"bytes and would unpack to 16,777,216.*unpack it yourself"):
        unpacked(archive)
    assert list(tmp_path.iterdir()) == [archive]


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_ENTRIES", 2)
    with pytest.raises(InputError, match="has 3 entries"):
        unpacked(write(tmp_path / "pets.zip", dict.fromkeys("abc", b"")))


def test_a_size_that_lies_leaves_nothing(tmp_path: Path) -> None:
    archive = write(tmp_path / "pets.zip", {"zeros.bmp": bytes(5000)})
    content = archive.read_bytes().replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"pets\.zip cannot be unpacked: .*give its folder"):
        unpacked(archive)
    assert not [file for file in tmp_path.iterdir() if file.is_dir()]


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"pets\.zip"):
        open_dataset(tmp_path / "pets.zip", "val")


def test_damaged_content_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    archive = write(tmp_path / "pets.zip", {"a.txt": os.urandom(1000)})
    content = bytearray(archive.read_bytes())
    content[500] ^= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"pets\.zip cannot be unpacked"):
        unpacked(archive)
    assert not [file for file in tmp_path.iterdir() if file.is_dir()]


def test_an_encrypted_archive_is_named(tmp_path: Path) -> None:
    archive = write(tmp_path / "pets.zip", {"a.txt": b"a"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"'a\.txt' is encrypted"):
        unpacked(archive)


def test_a_folder_of_a_mac_is_left_out(tmp_path: Path) -> None:
    folder = unpacked(write(tmp_path / "pets.zip", {"pets/data.yaml": b"", "__MACOSX/pets/._data.yaml": b""}))
    assert [file.name for file in folder.iterdir()] == ["data.yaml"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(archives, "locked", refuse)
    with pytest.raises(InputError, match=r"cannot be unpacked: .*Permission denied.*Unpack it yourself"):
        unpacked(write(tmp_path / "pets.zip", {"a.txt": b"a"}))


def test_the_only_folder_is_not_passed_through_if_it_is_a_split(roboflow_folder: Path, tmp_path: Path) -> None:
    archive = pack(roboflow_folder / "train", tmp_path / "pets.zip", "train/")
    assert (unpacked(archive) / "train" / "_annotations.coco.json").is_file()

"""Files, folders, patterns and addresses that are expanded to images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anchordetr.data.images import IMAGE_SUFFIXES, UNREADABLE_IMAGE_SUFFIXES
from anchordetr.data.sources import expand_source, expand_sources
from anchordetr.errors import InputError


def touch(folder: Path, *names: str) -> list[Path]:
    files = [folder / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return files


def names(source: str | Path, folder: Path) -> list[str]:
    """Return what a source is expanded to, relative to a folder."""
    return [Path(image).relative_to(folder).as_posix() for image in expand_source(source)]


def test_a_folder_and_a_pattern_are_expanded_in_order(tmp_path: Path) -> None:
    second, first, _ = touch(tmp_path, "b.png", "a.JPG", "notes.txt")
    assert expand_source(tmp_path) == [first, second]
    assert expand_source(str(tmp_path / "*.png")) == [second]
    assert expand_source(first) == [first]


def test_every_readable_suffix_is_found_and_no_other(tmp_path: Path) -> None:
    files = touch(tmp_path, *(f"x{suffix}" for suffix in IMAGE_SUFFIXES))
    touch(tmp_path, *(f"x{suffix}" for suffix in UNREADABLE_IMAGE_SUFFIXES), "x.txt", "x")
    assert expand_source(tmp_path) == expand_source(f"{tmp_path}/*") == sorted(files)
    assert {".jfif", ".jpe"} < set(IMAGE_SUFFIXES)


def test_images_in_other_formats_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (only, *_) = touch(tmp_path, "a.jpg", "b.HEIC", "c.avif")
    for source in (str(tmp_path), f"{tmp_path}/*"):
        caplog.clear()
        assert expand_source(source) == [only]
        assert "2 images in formats that are not read (b.HEIC, c.avif); convert" in caplog.text
    only.unlink()
    with pytest.raises(InputError, match=r"2 images in formats that are not read \(b\.HEIC, c\.avif\)"):
        expand_source(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("sub [2024]/*.jpg", ["sub [2024]/a.jpg", "sub [2024]/b[1].jpg"]),
        ("sub [2024]/b[1].jpg", ["sub [2024]/b[1].jpg"]),
        ("sub [2024]/b[1]*", ["sub [2024]/b[1].jpg"]),
        ("*/b[1].jpg", ["sub [2024]/b[1].jpg"]),
        ("sub ?2024?", ["sub [2024]/a.jpg", "sub [2024]/b[1].jpg"]),
        ("sub 2", ["sub 2/c.png"]),
        ("sub [12]", ["sub 2/c.png"]),
        ("sub*", ["sub 2/c.png", "sub [2024]/a.jpg", "sub [2024]/b[1].jpg"]),
        ("**/*.png", ["sub 2/c.png", "sub 2/deep/d.png"]),
        ("sub 2/**", ["sub 2/c.png", "sub 2/deep/d.png"]),
        ("sub 2/../sub 2/*", ["sub 2/../sub 2/c.png", "sub 2/../sub 2/deep/d.png"]),
    ],
)
def test_what_exists_stands_for_itself_in_a_pattern(pattern: str, found: list[str], tmp_path: Path) -> None:
    touch(tmp_path, "sub [2024]/a.jpg", "sub [2024]/b[1].jpg", "sub 2/c.png", "sub 2/deep/d.png")
    assert names(f"{tmp_path}/{pattern}", tmp_path) == found


def test_relative_patterns_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a [1]/b.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for pattern in ("a [1]/*.jpg", "**/*.jpg", "*", "./*/b.*"):
        assert expand_source(pattern) == [Path("a [1]/b.jpg")]
    for pattern in ("~/a [1]/*.jpg", "~/a [1]", "~/a [1]/b.jpg"):
        assert expand_source(pattern) == [tmp_path / "a [1]" / "b.jpg"]
    touch(tmp_path, "~/c.jpg")
    assert expand_source("~/c.jpg") == [Path("~/c.jpg")]


def test_hidden_files_are_left_out_and_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.jpg", "data/._a.jpg", "data/.ipynb_checkpoints/b.jpg", "elsewhere/c.jpg", "d.jpg")
    (tmp_path / "data" / "link.jpg").symlink_to(tmp_path / "d.jpg")
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "elsewhere")
    for loop in ("loop", "another_loop", "third_loop"):
        (tmp_path / "data" / loop).symlink_to(tmp_path / "data")
    data = tmp_path / "data"
    assert names(data, data) == names(f"{data}/*.jpg", data) == ["a.jpg", "link.jpg"]
    assert names(f"{data}/**/*.jpg", data) == ["a.jpg", "folder/c.jpg", "link.jpg"]


def test_an_image_that_is_named_twice_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = touch(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert expand_sources([second, tmp_path, f"{tmp_path}/*.jpg"]) == [second, first]
    assert expand_sources(["./a.jpg", "a.jpg", first]) == [Path("a.jpg")]
    assert expand_sources(["http://host/a.jpg", "http://host/a.jpg"]) == ["http://host/a.jpg"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("empty", r"folder .*empty contains no images \(\.jpg"),
        ("*.gif", r"pattern .*gif matches no images"),
        ("empt*", r"pattern .* matches no images"),
        ("none.jpg", r"No such.*none\.jpg"),
        ("x" * 5000, r"No such image"),
        ("a\0b.jpg", r"No such image"),
    ],
)
def test_a_source_without_images_is_refused(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message) as error:
        expand_source(f"{tmp_path}/{source}")
    assert len(str(error.value)) < 600


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="empty"):
        expand_source("")


def test_a_pipe_is_given_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert expand_source(tmp_path / "pipe.jpg") == [tmp_path / "pipe.jpg"]

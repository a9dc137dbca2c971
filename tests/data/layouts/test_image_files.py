"""Where listed images are: folders, and names from other machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from anchordetr.data.layouts.image_files import locate_images


def make(data: Path, *names: str) -> None:
    for name in names:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()


@pytest.mark.parametrize(
    "listed",
    [
        "images/x y.jpg",
        "images\\x y.jpg",
        "/home/me/data/val/x y.jpg",
        "C:\\data\\val\\x y.jpg",
        "X Y.JPG",
        "../other/x y.jpg",
        "x y.jpg ",
    ],
)
def test_another_spelling_of_a_path_is_found_and_noted(listed: str, tmp_path: Path) -> None:
    make(tmp_path, "val/x y.jpg", "val/y.jpg")
    found = locate_images([listed, "y.jpg"], [tmp_path / "val"], tmp_path)
    assert found.names == ["x y.jpg", "y.jpg"]
    assert found.notes == (f"images found under another path than the listed one: 1 ({listed} is x y.jpg).",)


@pytest.mark.parametrize("listed", ["x.jpg", "./x.jpg", "../val/x.jpg", "../train/z.jpg"])
def test_a_path_inside_of_the_data_set_stays_as_it_is(listed: str, tmp_path: Path) -> None:
    make(tmp_path, "val/x.jpg", "train/z.jpg")
    assert locate_images([listed], [tmp_path / "val"], tmp_path) == (tmp_path / "val", [listed], ())


def test_composed_and_decomposed_letters_are_equal(tmp_path: Path) -> None:
    make(tmp_path, "val/u\u0308.jpg")
    assert locate_images(["\u00fc.jpg"], [tmp_path / "val"], tmp_path).names == ["u\u0308.jpg"]


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        (["val/x.jpg"], ["a/x.jpg", "b/x.jpg"]),
        (["val/x.jpg"], ["x.jpg", "b/x.jpg"]),
        (["val/x.jpg", "val/X.jpg"], ["X.JPG"]),
        (["val/b/x.jpg"], ["a/x.jpg"]),
        (["val/b/x.jpg"], ["x.jpg"]),
        (["val/.x.jpg"], ["X.jpg"]),
    ],
)
def test_a_name_that_may_mean_another_image_stays_as_it_is(files: list[str], listed: list[str], tmp_path: Path) -> None:
    make(tmp_path, *files)
    assert locate_images(listed, [tmp_path / "val"], tmp_path) == (tmp_path / "val", listed, ())


def test_the_longest_end_of_a_path_decides(tmp_path: Path) -> None:
    make(tmp_path, "val/a/x.jpg", "val/x.jpg")
    assert locate_images(["other/a/x.jpg"], [tmp_path / "val"], tmp_path).names == ["a/x.jpg"]


def test_the_folder_with_most_of_the_images_is_used(tmp_path: Path) -> None:
    make(tmp_path, "val/x.jpg", "images/x.jpg", "images/y.jpg", "other/y.jpg")
    folders = [tmp_path / name for name in ("val", "images", "other")]
    found = locate_images(["x.jpg", "y.jpg"], folders, tmp_path)
    assert found.root == tmp_path / "images"
    assert found.notes == (f"images are read from {tmp_path}/images; {tmp_path}/val holds 1 of them.",)
    assert locate_images(["x.jpg"], folders, tmp_path) == (tmp_path / "val", ["x.jpg"], ())
    assert locate_images(["z.jpg"], folders, tmp_path) == (tmp_path / "val", ["z.jpg"], ())


def test_images_outside_of_the_data_set_are_used_last_and_noted(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/x.jpg", "data/val/y.jpg")
    outside = str(tmp_path / "elsewhere" / "x.jpg")
    found = locate_images([outside], [tmp_path / "data" / "val"], tmp_path / "data")
    assert found.names == [outside]
    assert found.notes == (f"images outside of the data set {tmp_path}/data: 1 ({outside}).",)
    make(tmp_path, "data/val/x.jpg")
    assert locate_images([outside], [tmp_path / "data" / "val"], tmp_path / "data").names == ["x.jpg"]

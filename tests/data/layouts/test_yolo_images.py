"""Places of images in the YOLO layout, and files that are not used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.yolo import YoloDataset
from anchordetr.errors import InputError

LABEL = "0 0.5 0.5 0.4 0.4\n"


def write_image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(file, format="PNG")


def write_pair(folder: Path, name: str, label: str = LABEL) -> None:
    """Write an image below ``images/`` and its label."""
    write_image(folder / "images" / name)
    file = (folder / "labels" / name).with_suffix(".txt")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(label)


def write_settings(folder: Path, val: str, more: str = "") -> None:
    (folder / "data.yaml").write_text(f"val: {val}\nnames: [a]\n{more}\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of two images in a folder of its own."""
    folder = tmp_path / "exports" / "data"
    for name in ("val/1.png", "val/2.png"):
        write_pair(folder, name)
    write_settings(folder, "images/val")
    return folder


def read(folder: Path) -> RawSplit:
    return YoloDataset.read(folder, "val")


def found(split: RawSplit) -> dict[str, list[str]]:
    return {finding.kind: list(finding.names) for finding in split.findings if finding.names}


BOTH = ["images/val/1.png", "images/val/2.png"]


@pytest.mark.parametrize(
    ("val", "more"),
    [
        ("../images/val", ""),
        ("../../images/val", ""),
        ("../data/images/val", ""),
        ("./images/val/", ""),
        ("images\\val", ""),
        ("/content/data/images/val", ""),
        ("C:\\Users\\x\\images\\val", ""),
        ("images/val", "path: ../data"),
        ("images/val", "path: /content/data"),
        ("images/val", "path: ~/nowhere"),
        ("images/val", "path: C:\\Users\\x"),
        ("val", "path: images"),
        ("[images/val, images]", ""),
    ],
)
def test_places_inside_of_the_data_set_are_found(val: str, more: str, data: Path) -> None:
    write_settings(data, val, more)
    assert read(data).file_names == BOTH


@pytest.mark.parametrize(("val", "more"), [("../images/val", ""), ("images/val", "path: {other}")])
def test_what_lies_inside_comes_before_what_lies_outside(val: str, more: str, data: Path) -> None:
    other = data.parent
    write_pair(other, "val/foreign.png")
    write_settings(data, val, more.format(other=other))
    split = read(data)
    assert split.file_names == BOTH
    assert split.notes == (
        f"'{val}' is read as images/val in the data set; {other / 'images' / 'val'} outside of it is not used.",
    )


def test_images_outside_of_the_data_set_are_said(data: Path) -> None:
    write_pair(data.parent, "val/foreign.png")
    shutil.rmtree(data / "images")
    write_settings(data, "../images/val")
    split = read(data)
    assert split.file_names == [str(data.parent / "images" / "val" / "foreign.png")]
    assert split.notes == (
        f"the images of '../images/val' come from {data.parent / 'images' / 'val'}, outside of the data set.",
    )


def test_an_absolute_path_that_exists_is_used_and_said(data: Path) -> None:
    other = data.parent / "other"
    write_pair(other, "val/foreign.png")
    write_settings(data, f"{other}/images/val")
    split = read(data)
    assert split.file_names == [str(other / "images" / "val" / "foreign.png")]
    assert "outside of the data set" in split.notes[0]


def test_one_part_of_a_path_of_another_computer_is_not_enough(data: Path) -> None:
    write_settings(data, "/content/images")
    with pytest.raises(InputError, match=r"names '/content/images', which is not in"):
        read(data)


def test_lines_may_be_relative_to_the_data_set_or_to_the_list(data: Path) -> None:
    (data / "lists" / "more").mkdir(parents=True)
    (data / "lists" / "more" / "val.txt").write_text("images/val/1.png\n../../images/val/2.png\n")
    write_settings(data, "lists/more/val.txt", "path: /content/data")
    assert read(data).file_names == BOTH


def test_lists_prefer_the_images_inside_too(data: Path) -> None:
    write_pair(data.parent, "val/1.png")
    write_settings(data, "val.txt")
    (data / "val.txt").write_text("../images/val/1.png\nC:\\x\\images\\val\\2.png\n/a/images/val/1.png\n\n")
    split = read(data)
    assert split.file_names == BOTH
    assert split.notes == ("images that are listed several times, used once: 1.",)


def test_listed_images_outside_of_the_data_set_are_counted(data: Path) -> None:
    write_pair(data.parent, "foreign.png")
    write_settings(data, "val.txt")
    (data / "val.txt").write_text("../images/foreign.png\nimages/val/1.png\n")
    split = read(data)
    assert len(split.file_names) == 2
    assert "outside of the data set: 1, " in split.notes[0]


def test_hidden_files_and_notes_are_no_findings(data: Path) -> None:
    write_pair(data, "val/.ipynb_checkpoints/1.png")
    write_pair(data, "val/._1.png")
    for name in ("images/val/Thumbs.db", "labels/classes.txt", "labels/val/README.txt"):
        (data / name).write_text("cat\n")
    split = read(data)
    assert split.file_names == BOTH
    assert found(split) == {}


def test_files_that_are_not_used_are_named_and_the_doctor_warns(data: Path) -> None:
    for name in ("a.jfif", "b.heic", "c.avif", "d.jpe"):
        write_pair(data, f"val/{name}")
    write_image(data / "images" / "val" / "unlabelled.PNG")
    (data / "labels" / "val" / "orphan.txt").write_text(LABEL)
    split = read(data)
    assert [Path(name).name for name in split.file_names] == ["1.png", "2.png", "a.jfif", "d.jpe", "unlabelled.PNG"]
    assert found(split) == {
        "unlabelled_image": ["images/val/unlabelled.PNG"],
        "unread_format": ["images/val/b.heic", "images/val/c.avif"],
        "orphan_labels": ["labels/val/orphan.txt"],
    }
    report = examine(data)
    assert not report.clean
    assert found(split).keys() <= {finding.kind for _, finding in report.all_findings()}


def test_images_that_share_a_label_file_are_named(data: Path) -> None:
    write_image(data / "images" / "val" / "1.jpg")
    assert found(read(data)) == {"shared_labels": ["images/val/1.jpg", "images/val/1.png"]}


def test_symbolic_links_to_folders_are_followed_once(data: Path, tmp_path: Path) -> None:
    write_pair(tmp_path / "pool", "3.png")
    (data / "images" / "val" / "more").symlink_to(tmp_path / "pool" / "images")
    (data / "labels" / "val" / "more").symlink_to(tmp_path / "pool" / "labels")
    (data / "images" / "val" / "loop").symlink_to(data / "images")
    split = read(data)
    assert split.file_names == [*BOTH, "images/val/more/3.png"]
    assert found(split) == {}


def test_images_of_earlier_runs_are_left_out_and_counted(data: Path) -> None:
    write_image(data / "runs" / "detect" / "1.png")
    (data / "runs" / "detect" / "labels").mkdir()
    (data / "runs" / "detect" / "labels" / "1.txt").write_text(LABEL)
    write_settings(data, ".")
    split = read(data)
    assert split.file_names == BOTH
    assert split.notes == (f"images of earlier runs below {data}, left out: 1.",)
    assert found(split) == {}


def test_a_folder_runs_with_labels_is_data(data: Path) -> None:
    write_pair(data, "val/runs/3.png")
    assert len(read(data).file_names) == 3


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling link"])
@pytest.mark.parametrize("name", ["labels/val/1.txt", "val.txt"])
def test_only_regular_files_are_read(kind: str, name: str, data: Path) -> None:
    file = data / name
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("nowhere")
    write_settings(data, "images/val" if name.startswith("labels") else "val.txt")
    with pytest.raises(InputError, match=r"1\.txt|val\.txt"):
        read(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", r"val\.txt is not a text file"),
        (b"\n", r"data\.yaml names no image \(val\.txt\)"),
        (b"images/val/1.png\n/\n", r"val\.txt lists 1 folders, '/' first"),
        (b"images/val\n", r"val\.txt lists 1 folders, 'images/val' first"),
    ],
)
def test_unusable_lists_are_named(content: bytes, message: str, data: Path) -> None:
    (data / "val.txt").write_bytes(content)
    write_settings(data, "val.txt")
    with pytest.raises(InputError, match=message):
        read(data)


def test_listed_images_that_do_not_exist_are_named(data: Path) -> None:
    (data / "val.txt").write_bytes(b"images/none.png\na\0b.png\nimages/" + b"x" * 5000)
    write_settings(data, "val.txt")
    with pytest.raises(InputError, match=r"missing images: 3 .*images/none\.png"):
        YoloDataset.open(data, "val")


def test_a_split_of_unread_formats_only_is_refused(data: Path) -> None:
    shutil.rmtree(data / "images")
    write_image(data / "images" / "val" / "1.heic")
    with pytest.raises(InputError, match=r"names no image .*not read.*images/val/1\.heic"):
        read(data)

"""Lists, names and unused files of the Pascal VOC layout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.voc import VocDataset
from anchordetr.errors import InputError

OBJECT = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox></object>"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    return tmp_path


def write_xml(folder: Path, key: str, file_name: str = "", size: str = "") -> None:
    file = folder / "Annotations" / f"{key}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation><filename>{file_name}</filename>{size}{OBJECT}</annotation>")


def write_image(folder: Path, name: str) -> None:
    file = folder / "JPEGImages" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(file, format="JPEG")


def read(folder: Path, *lines: str) -> RawSplit:
    (folder / "ImageSets" / "Main" / "val.txt").write_text("\n".join(lines))
    return VocDataset.read(folder, "val")


def found(split: RawSplit) -> dict[str, list[str]]:
    return {finding.kind: list(finding.names) for finding in split.findings if finding.names}


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("photo (1)", "photo (1)"),
        ("my cat", "my cat"),
        ("my cat  1", "my cat"),
        ("my cat -1", "my cat"),
        ("my cat 0", "my cat"),
        ("a 1", "a 1"),
        ("a 1 1", "a 1"),
        ("v1.2", "v1.2"),
        ("v1.2.jpg", "v1.2"),
        ("JPEGImages/v1.2.JPG", "v1.2"),
        ("JPEGImages\\my cat.jpg 1", "my cat"),
        ("./v1.2.xml", "v1.2"),
        ("sub/x", "sub/x"),
    ],
)
def test_a_line_of_a_list_is_a_file_name_with_or_without_suffix_and_flag(line: str, key: str, data: Path) -> None:
    for name in ("photo (1)", "my cat", "a", "a 1", "v1.2", "sub/x", "x"):
        write_xml(data, name)
        write_image(data, f"{name}.JPEG")
    assert read(data, line).file_names == [f"{key}.JPEG"]


@pytest.mark.parametrize(
    ("image", "file_name"),
    [
        ("a.JPEG", "a"),
        ("a.PNG", "a.jpg"),
        ("a.jpeg", "b.jpg"),
        ("b.JPEG", "b"),
        ("b.jpg", "C:\\photos\\b.JPG"),
        ("b.jpg", "/home/x/b.jpg"),
        ("b.c.jpg", "b.c"),
    ],
)
def test_the_image_of_an_annotation_is_found(image: str, file_name: str, data: Path) -> None:
    write_xml(data, "a", file_name)
    write_image(data, image)
    assert read(data, "a").file_names == [image]


def test_an_annotation_s_own_name_comes_before_the_one_that_it_says(data: Path) -> None:
    for key, file_name in (("a", "b.jpg"), ("b", "a.jpg")):
        write_xml(data, key, file_name)
        write_image(data, f"{key}.jpg")
    split = read(data, "a", "b")
    assert split.file_names == ["a.jpg", "b.jpg"]
    assert split.notes == ("annotations with another image's <filename>, which is not used: 2.",)


def test_the_image_of_another_annotation_is_not_taken(data: Path) -> None:
    for key in "ab":
        write_xml(data, key, "b.jpg")
    write_image(data, "b.jpg")
    with pytest.raises(InputError, match=r"missing images: 1 \(a\.jpg\)"):
        VocDataset(read(data, "a", "b"))


@pytest.mark.parametrize("file_name", ["../Annotations/a.xml", "../secret.jpg", "/etc/passwd"])
def test_no_file_name_leads_out_of_the_folder_of_images(file_name: str, data: Path) -> None:
    write_xml(data, "a", file_name)
    write_image(data, "other.jpg")
    write_image(data, "../secret.jpg")
    assert read(data, "a").file_names == ["a.jpg"]


def test_files_that_are_not_used_are_named_and_the_doctor_warns(data: Path) -> None:
    for key in ("a", "unlisted", "orphan"):
        write_xml(data, key)
    for name in ("a.jpg", "a.png", "unlisted.jpg", "lonely.jpg", "photo.heic", "._a.jpg", ".ipynb_checkpoints/a.jpg"):
        write_image(data, name)
    (data / "Annotations" / "._a.xml").write_bytes(b"\0")
    (data / "JPEGImages" / "Thumbs.db").write_bytes(b"\0")
    split = read(data, "a", "a.jpg")
    assert split.file_names == ["a.jpg"]
    assert found(split) == {
        "orphan_labels": ["orphan.xml"],
        "unannotated_image": ["a.png", "lonely.jpg"],
        "unread_format": ["photo.heic"],
    }
    assert split.notes == (
        "images that are listed several times, used once: 1.",
        "annotated images that are in no list: 1.",
    )
    report = examine(data)
    assert not report.clean
    assert found(split).keys() <= {finding.kind for _, finding in report.all_findings()}


def test_a_listed_image_in_a_format_that_is_not_read_is_named(data: Path) -> None:
    write_xml(data, "a", size="<size><width>100</width><height>50</height></size>")
    write_image(data, "a.heic")
    (data / "JPEGImages" / "a.heic").write_bytes(b"ftypheic")
    with pytest.raises(InputError, match=r"cannot be read: 1 \(a\.heic\)"):
        VocDataset(read(data, "a"))


def test_a_size_that_no_image_has_is_read_from_the_image_and_counted(data: Path) -> None:
    write_xml(data, "a", size="<size><width>1e19</width><height>50</height></size>")
    write_image(data, "a.jpg")
    split = read(data, "a")
    assert split.sizes.tolist() == [[50, 100]]
    assert split.notes == ("annotations with a <size> that no image has, read from the image: 1.",)


def test_folders_and_pipes_are_no_files_of_the_data_set(data: Path) -> None:
    write_xml(data, "a")
    write_image(data, "a.jpg")
    os.mkfifo(data / "Annotations" / "b.xml")
    (data / "Annotations" / "c.xml").mkdir()
    os.mkfifo(data / "JPEGImages" / "b.jpg")
    assert read(data, "a").file_names == ["a.jpg"]
    with pytest.raises(InputError, match=r"lists 2 images without Annotations/\*\.xml: b, c"):
        read(data, "a", "b", "c")
    os.mkfifo(data / "ImageSets" / "Main" / "train.txt")
    assert VocDataset.splits(data).keys() == {"val"}


def test_an_unreadable_list_and_a_missing_folder_are_named(data: Path) -> None:
    write_xml(data, "a")
    with pytest.raises(InputError, match="JPEGImages does not exist"):
        read(data, "a")
    (data / "JPEGImages").mkdir()
    (data / "ImageSets" / "Main" / "val.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"val\.txt is not a text file"):
        VocDataset.read(data, "val")

"""Annotation files of the Pascal VOC layout."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from anchordetr.data.layouts.voc_xml import VocAnnotation, read_annotation
from anchordetr.errors import InputError

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox>"


def read(folder: Path, content: str | bytes, tag: str = "annotation") -> VocAnnotation:
    file = folder / "a.xml"
    file.write_bytes(content if isinstance(content, bytes) else f"<{tag}>{content}</{tag.split()[0]}>".encode())
    return read_annotation(file, "a.xml")


def test_namespaces_are_ignored(tmp_path: Path) -> None:
    tag = 'annotation xmlns="http://example.org/voc"'
    assert read(tmp_path, f"<object><name>cat</name>{BOX}</object>", tag).objects[0].class_name == "cat"


def test_the_parts_of_an_object_are_not_the_object(tmp_path: Path) -> None:
    part = f"<part><name>head</name>{BOX.replace('10', '99')}</part>"
    annotation = read(tmp_path, f"<object>{part}<name>cat</name>{BOX}</object>")
    assert [(item.class_name, item.box) for item in annotation.objects] == [("cat", (0, 0, 10, 20))]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (f"<name></name>{BOX}", r"a\.xml: a\.xml object 2 has no class"),
        (f"<name> </name>{BOX}", r"object 2 has no class"),
        (BOX, r"object 2 has no class"),
        (f"<name>cat</name>{BOX}{BOX}", "object 2 has several <bndbox>"),
        (f"<name>cat</name><name>dog</name>{BOX}", "object 2 has several <name>"),
    ],
)
def test_objects_without_a_class_or_with_two_of_something_are_refused(item: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, f"<object><name>cat</name>{BOX}</object><object>{item}</object>")


@pytest.mark.parametrize("width", ["1e19", "nan", "inf", "-5", "1e400", "100.5", "ten", "²", "1_00", "9" * 5000, "0"])
def test_a_size_that_no_image_has_is_unknown(width: str, tmp_path: Path) -> None:
    annotation = read(tmp_path, f"<size><width>{width}</width><height>80</height></size>")
    assert annotation.size == (0, 0)
    assert annotation.bad_size


@pytest.mark.parametrize(
    ("size", "expected"), [("", (0, 0)), ("<width> 100.0 </width><height>8e1</height>", (80, 100))]
)
def test_missing_sizes_and_whole_floats_are_no_bad_sizes(size: str, expected: tuple[int, int], tmp_path: Path) -> None:
    annotation = read(tmp_path, f"<size>{size}</size>")
    assert (annotation.size, annotation.bad_size) == (expected, False)


@pytest.mark.parametrize("number", ["nan", "inf", "1e400", "ten", "1_0", "", "٣"])
def test_a_corner_that_is_no_finite_number_makes_no_box(number: str, tmp_path: Path) -> None:
    box = BOX.replace(">10<", f">{number}<")
    assert not np.isfinite(read(tmp_path, f"<object><name>cat</name>{box}</object>").objects[0].box).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<a>" * 100_000 + "</a>" * 100_000, "nested more than 64 deep"),
        (b"<html/>", "root is <html>"),
        (b"", "no element found"),
        (b"<annotation>\xff</annotation>", "not well-formed"),
        (b'<?xml version="1.0" encoding="punycode"?><annotation/>', "not a valid annotation file"),
        (b'<?xml version="1.0" encoding="hex"?><annotation/>', "not a valid annotation file"),
        (b" " * 2**24 + b"<annotation/>", "bytes; at most"),
    ],
    ids=["depth", "root", "empty", "bytes", "punycode", "hex", "size"],
)
def test_hostile_files_are_named(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"a\.xml.*{message}"):
        read(tmp_path, content)


def test_a_named_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.xml")
    with pytest.raises(InputError, match="named pipe"):
        read_annotation(tmp_path / "a.xml", "a.xml")


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1"])
def test_the_declared_encoding_is_used(encoding: str, tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation><filename>ä.jpg</filename></annotation>'
    assert read(tmp_path, text.encode(encoding)).file_name == "ä.jpg"

"""data.yaml of the YOLO layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from anchordetr.data.layouts.yolo_settings import YoloSettings, read_settings
from anchordetr.errors import InputError


def settings_of(folder: Path, text: str | bytes) -> YoloSettings:
    file = folder / "data.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_settings(file)


def test_names_are_the_text_that_was_written(tmp_path: Path) -> None:
    names = settings_of(tmp_path, "names: [02146, yes, null, 1.10, 12:30, 1e3, 2024-13-45, ~, 'a b']\n").names
    assert list(names.values()) == ["02146", "yes", "null", "1.10", "12:30", "1e3", "2024-13-45", "~", "a b"]


@pytest.mark.parametrize("text", ["{'1': dog, '0': cat}", "{1: dog, 0: cat}", "\n- cat\n- dog"])
def test_class_ids_may_be_quoted_and_unsorted(text: str, tmp_path: Path) -> None:
    assert list(settings_of(tmp_path, f"names: {text}\n").names.items()) == [(0, "cat"), (1, "dog")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("{0: cat, 0: dog}", "'0' is given twice"),
        ("{0: cat, '0': dog}", "'0' is given twice"),
        ("{0: cat, 00: dog}", "class id twice: 0, 00"),
        ("{0.0: cat}", r"'0\.0' as a class id"),
        ("{-1: cat}", "'-1' as a class id"),
        ("{cat: 0}", "'cat' as a class id"),
        ("{٣: cat}", "as a class id"),
        ("{12345678901234567890: cat}", "as a class id"),
        ("[cat, '']", "class 1 the name ''"),
        ("[cat, [dog]]", r"class 1 the name \['dog'\]"),
        ("{0: {name: cat}}", "class 0 the name"),
        ('["\\ud800"]', "class 0 the name"),
        ("[cat, cat]", "one name to several"),
        ("cat", "a list of class names"),
        ("[]", "a list of class names"),
    ],
)
def test_unusable_names_are_refused(names: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"data\.yaml.*{message}"):
        settings_of(tmp_path, f"train: a\nnames: {names}\n")


@pytest.mark.parametrize(
    "text",
    [
        "date: !!timestamp x\nnames: [a]\n",
        "names: [caf\xe9]\n".encode("latin-1"),
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
        "names: " + "[" * 5000 + "]" * 5000,
        "&a [*a]",
        "names: [a]\n---\nnames: [b]\n",
        "names: !!python/object/apply:os.getcwd []\n",
        "? {a: b}\n: c\n",
    ],
    ids=["tag", "encoding", "aliases", "depth", "cycle", "documents", "object", "key"],
)
def test_hostile_yaml_is_named(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.yaml"):
        settings_of(tmp_path, text)


def test_values_that_say_nothing_are_no_splits(tmp_path: Path) -> None:
    text = "names: [a]\ntrain: [one, two]\nval: ~\ntest:\npath: null\n2024-13-45: 2024-13-45\n"
    settings = settings_of(tmp_path, text)
    assert settings.splits == {"train": ["one", "two"]}
    assert settings.root.resolve() == tmp_path.resolve()


@pytest.mark.parametrize("line", ["train: {a: b}", "train: [[a]]", 'train: "a\\0b"', "path: [a]", "nc: {a: 1}"])
def test_values_of_another_kind_are_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"data\.yaml: '{line.split(':')[0]}' must be"):
        settings_of(tmp_path, f"names: [a]\n{line}\n")


def test_another_number_of_classes_than_names_is_said(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "names: [a, b]\nnc: 2\n").notes == ()
    assert settings_of(tmp_path, "names: [a, b]\nnc: 80\n").notes == (
        "'nc' is 80, but 'names' has 2 classes; 'names' is used.",
    )


@pytest.mark.parametrize(
    ("text", "task", "columns"),
    [("", "", None), ("task: Segment", "segment", None), ("task: obb", "obb", 9), ("kpt_shape: [17, 3]", "pose", 56)],
)
def test_the_task_says_how_many_values_a_line_has(text: str, task: str, columns: int | None, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, f"names: [a]\n{text}\n")
    assert (settings.task, settings.columns) == (task, columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: classify", "'classify' are not read"),
        ("task: pose", "needs 'kpt_shape'"),
        ("task: obb\nkpt_shape: [4, 2]", "contradicts 'kpt_shape'"),
        ("kpt_shape: 17", "'kpt_shape' must be"),
        ("kpt_shape: [17, 23]", "'kpt_shape' must be"),
        ("kpt_shape: [[17], 3]", "'kpt_shape' must be"),
    ],
)
def test_tasks_without_boxes_and_contradictions_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        settings_of(tmp_path, f"names: [a]\n{text}\n")

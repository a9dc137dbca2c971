"""``data.yaml`` of the YOLO layout: classes, places of the images, and what a line of a label file holds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from anchordetr.documents import TextLoader, read_yaml
from anchordetr.errors import InputError

SPLITS = ("train", "val", "valid", "validation", "test")
_NOTHING = ("", "~", "null", "Null", "NULL")  # YAML's spellings of no value
_TASKS = ("detect", "segment", "pose", "obb")
_CLASS_ID = re.compile(r"[0-9]{1,18}")
_OBB_COLUMNS = 9  # the class and four corners


@dataclass(frozen=True)
class YoloSettings:
    """The content of ``data.yaml``.

    Attributes:
        file: ``data.yaml`` itself, or what stands for it.
        folder: of the data set.
        root: the folder that ``path`` names, which need not exist.
        names: the name of each class id, sorted by id.
        splits: image folders and list files of each split, as written.
        task: ``detect``, ``segment``, ``pose`` or ``obb``, empty if it is not given.
        columns: the number of values in a label line of the task, if it is fixed: of ``pose`` and ``obb``.
        notes: contradictions, one sentence each.
    """

    file: Path
    folder: Path
    root: Path
    names: dict[int, str]
    splits: dict[str, list[str]]
    task: str
    columns: int | None
    notes: tuple[str, ...]


class _UniqueKeys(TextLoader):
    """Refuses a key that is given twice, of which YAML would keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key.value}' is given twice")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_settings(file: Path) -> YoloSettings:
    """Return the content of ``data.yaml``.

    Raises:
        InputError: it cannot be read, has no usable names, or is for a task without boxes; the message names the key.
    """
    content = read_yaml(file, _UniqueKeys)
    if not isinstance(content, dict):
        raise InputError(f"{file} must contain 'names', 'train' and 'val'.")
    names = class_names(content.get("names"), file)
    task, columns = _task(content, file)
    count = _text(content, "nc", file)
    contradiction = f"'nc' is {count[:20]}, but 'names' has {len(names)} classes; 'names' is used."
    return YoloSettings(
        file=file,
        folder=file.parent,
        root=file.parent / os.path.expanduser(_text(content, "path", file).replace("\\", "/")),
        names=names,
        splits={split: places for split in SPLITS if (places := _places(content, split, file))},
        task=task,
        columns=columns,
        notes=(contradiction,) if count and count.strip() != str(len(names)) else (),
    )


def _text(content: dict[Any, Any], key: str, file: Path) -> str:
    value = content.get(key)
    if value is None or value in _NOTHING:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise InputError(f"{file}: '{key}' must be one value; got {_shown(value)}.")
    return value


def _places(content: dict[Any, Any], split: str, file: Path) -> list[str]:
    value = content.get(split)
    entries = value if isinstance(value, list) else [value]
    wrong = [entry for entry in entries if entry is not None and (not isinstance(entry, str) or "\0" in entry)]
    if wrong:
        raise InputError(f"{file}: '{split}' must be a folder, a list file, or a list of them; got {_shown(wrong[0])}.")
    return [entry for entry in entries if entry is not None and entry not in _NOTHING]


def class_names(names: Any, file: Path) -> dict[int, str]:
    """Return the name of each class id, sorted by id.

    Args:
        names: a list, or a dictionary with class ids as keys. file: for messages.

    Raises:
        InputError: they are anything else, or two ids or names are equal.
    """
    if isinstance(names, list):
        names = {str(position): name for position, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise InputError(f"{file} needs 'names': a list of class names, or one name for each class id.")
    for key, name in names.items():
        if not isinstance(key, str) or not _CLASS_ID.fullmatch(key):
            raise InputError(f"{file}: 'names' has {_shown(key)} as a class id; ids are 0, 1, 2, ...")
        if not isinstance(name, str) or not name.strip() or not _is_text(name):
            raise InputError(f"{file}: 'names' gives class {key} the name {_shown(name)}; write a word.")
    by_id = {int(key): name for key, name in names.items()}
    if len(by_id) < len(names):
        raise InputError(f"{file} names a class id twice: {', '.join(names)}.")
    if len(set(by_id.values())) < len(by_id):
        raise InputError(f"{file} gives one name to several classes: {', '.join(by_id.values())}.")
    return dict(sorted(by_id.items()))


def _task(content: dict[Any, Any], file: Path) -> tuple[str, int | None]:
    """Return the task, and the number of values of its lines if it is fixed."""
    task = _text(content, "task", file).strip().lower()
    if task and task not in _TASKS:
        raise InputError(f"{file}: the labels of the task {_shown(task)} are not read; known are {', '.join(_TASKS)}.")
    shape = content.get("kpt_shape")
    has_keypoints = shape is not None and shape not in _NOTHING
    if not has_keypoints and task == "pose":
        raise InputError(f"{file}: the task 'pose' needs 'kpt_shape': the number of keypoints, and 2 or 3.")
    if not has_keypoints:
        return task, _OBB_COLUMNS if task == "obb" else None
    if task in ("segment", "obb"):
        raise InputError(f"{file}: the task '{task}' contradicts 'kpt_shape', which is for poses; remove one of them.")
    if not (
        isinstance(shape, list) and len(shape) == 2 and _CLASS_ID.fullmatch(str(shape[0])) and shape[1] in ("2", "3")
    ):
        raise InputError(f"{file}: 'kpt_shape' must be the number of keypoints, and 2 or 3; got {_shown(shape)}.")
    return "pose", 5 + int(shape[0]) * int(shape[1])


def _is_text(name: str) -> bool:
    """Return whether a name can be written as UTF-8: YAML's escapes can make lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _shown(value: Any) -> str:
    return ascii(value)[:60] if not isinstance(value, str) or not _is_text(value) else repr(value)[:60]

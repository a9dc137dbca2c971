"""Model folders with damaged, foreign or absurd files: refused with the name of the file, or nothing has changed."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from saved_models import edit_config

from anchordetr import Detector
from anchordetr.errors import InputError, UsageError
from anchordetr.weights.description import SavedModel
from anchordetr.weights.saved_model import read_model, write_model
from anchordetr.weights.tensor_file import write_tensors


def same(first: SavedModel, second: SavedModel) -> bool:
    facts = [(saved.config, saved.class_names, saved.category_ids, saved.origin) for saved in (first, second)]
    weights = first.weights.keys() == second.weights.keys()
    return facts[0] == facts[1] and weights and all(map(torch.equal, first.weights.values(), second.weights.values()))


def metadata_of(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata())


@pytest.mark.parametrize(("precision", "flips"), [("fp32", 150), ("fp16", 30), ("bf16", 30)])
def test_no_flipped_bit_changes_a_model(precision: str, flips: int, detector: Detector, tmp_path: Path) -> None:
    detector.save_pretrained(tmp_path, precision)
    file, generator = tmp_path / "model.safetensors", random.Random(precision)
    before, whole = read_model(tmp_path), file.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for number in range(flips):
        content = bytearray(whole)
        content[generator.randrange(header if number % 3 == 0 else len(whole))] ^= 1 << generator.randrange(8)
        file.unlink()  # the tensors of the intact model are mapped from it
        file.write_bytes(content)
        try:
            assert same(read_model(tmp_path), before)
        except InputError as error:
            assert str(tmp_path) in str(error)  # noqa: PT017


def test_damaged_tensors_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights, metadata = load_file(file), metadata_of(file)
    weights["heads.class_head.bias"][0] += 1
    save_file(weights, file, metadata)
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: 1 of .*heads\.class_head\.bias"):
        read_model(folder)


def test_a_file_of_another_tool_is_read_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, before = folder / "model.safetensors", read_model(folder)
    save_file({name: tensor.clone() for name, tensor in before.weights.items()}, file)
    assert same(read_model(folder), before)
    assert f"{file} was saved by another tool" in caplog.text


def test_digests_that_are_missing_are_noticed(folder: Path) -> None:
    file = folder / "model.safetensors"
    metadata = metadata_of(file)
    save_file(load_file(file), file, {"config": metadata["config"]})
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: its digests are missing"):
        read_model(folder)


def test_a_model_of_version_two_has_no_digests(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, before = folder / "model.safetensors", read_model(folder)
    values = json.loads(metadata_of(file)["config"]) | {"format_version": 2}
    save_file(load_file(file), file, {"format": "pt", "config": json.dumps(values)})
    edit_config(folder, format_version=2)
    assert same(read_model(folder), before)
    assert not caplog.records


def test_unused_classes_are_checked_and_belong_to_one_save(
    detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector._unused_classes = {"weight": torch.ones(2, 32), "bias": torch.ones(2)}
    detector.save_pretrained(tmp_path)
    file = tmp_path / "unused_classes.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"unused_classes\.safetensors is damaged"):
        read_model(tmp_path)
    write_tensors(file, detector._unused_classes, {"save_id": "another"})
    assert read_model(tmp_path).unused_classes == {}
    assert "another save" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_saved_with_a_warning_and_refused(
    value: float, detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.no_grad():
        detector.model.heads.class_head.bias[1] = value
    detector.save_pretrained(tmp_path)
    assert "not finite (heads.class_head.bias)" in caplog.text
    with pytest.raises(InputError, match=r"model\.safetensors is damaged.*not finite \(heads\.class_head\.bias\)"):
        read_model(tmp_path)


def test_values_beyond_half_precision_are_refused_on_saving(detector: Detector, tmp_path: Path) -> None:
    with torch.no_grad():
        largest = max(detector.model.parameters(), key=torch.numel)
        largest.fill_(1e6)
    with pytest.raises(UsageError, match=r"fp16 cannot hold.*bf16 or fp32"):
        detector.save_pretrained(tmp_path, "fp16")
    detector.save_pretrained(tmp_path, "bf16")
    read_model(tmp_path)


def replaced(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


THINGS: list[tuple[Callable[[Path], object], str]] = [
    (os.mkfifo, "named pipe"),
    (os.mkdir, "folder"),
    (lambda file: file.symlink_to("/dev/zero"), "device"),
    (replaced(b""), r"empty|not valid JSON"),
    (replaced(b"\n<!DOCTYPE html>"), "web page|not valid JSON"),
    (replaced(b"version https://git-lfs.github.com/spec/v1\nsize 9\n"), "Git LFS pointer|not valid JSON"),
    (replaced(b"some text that is no model"), "is damaged|not valid JSON"),
    (replaced(struct.pack("<Q", 2**62) + b"{}"), "is damaged|safetensors format|not .* UTF-8|not valid JSON"),
    (replaced(b"[" * 100_000), "is damaged|nested too deeply"),
]


@pytest.mark.parametrize(
    ("name", "put", "words"),
    [
        (name, put, words)
        for name in ("model.safetensors", "config.json", "unused_classes.safetensors", "c5.pth")
        for put, words in THINGS
        if (name, put) != ("c5.pth", os.mkdir)  # a folder can be a model folder
    ],
)
def test_other_things_than_files_of_a_model_are_named(
    name: str, put: Callable[[Path], object], words: str, folder: Path
) -> None:
    (folder / name).unlink(missing_ok=True)
    put(folder / name)
    with pytest.raises(InputError, match=f"{name}.*({words})"):
        Detector.from_pretrained(folder / name if name == "c5.pth" else folder, device="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_layers": 1_000_000},
        {"decoder_layers": 10**400},
        {"num_anchors": 10**12},
        {"num_patterns": 10**12},
        {"embed_dim": 32 * 10**9},
        {"ffn_dim": -1},
        {"num_heads": 0},
        {"query_groups": 10**6},
        {"num_classes": 10**9},
        {"ffn_dim": 65_536, "encoder_layers": 100},
        {"ffn_dim": 65_536, "encoder_layers": 100, "embed_dim": 8192},
        {"num_anchors": 100_000, "num_patterns": 1000},
        {"backbone": "no_such_network"},
        {"attention": "none"},
    ],
    ids=str,
)
def test_a_configuration_of_absurd_size_is_refused(changes: dict[str, Any], folder: Path) -> None:
    model = json.loads((folder / "config.json").read_text())["model"]
    edit_config(folder, model=model | changes)
    with pytest.raises((InputError, UsageError), match=str(folder)):
        Detector.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": [1]},
        {"origin": {"metrics": [0.5]}},
        {"origin": {"metrics": {"ap": "high"}}},
        {"origin": {"metrics": {"ap": 10**400}}},
        {"origin": {"versions": []}},
        {"class_names": ["a", 2, "c"]},
        {"category_ids": [1, 2, "3"]},
        {"category_ids": [1, 2, 10**400]},
        {"category_ids": [True, 2, 3]},
        {"format_version": [3]},
        {"format_version": None},
        {"architecture": ["AnchorDETR"]},
        {"architectures": [1], "architecture": None},
        {"model": []},
        {"model": {"backbone": {}}},
        {"train": None},
        {"data": {"a": {"b": []}}},
    ],
    ids=str,
)
def test_entries_of_another_type_are_refused(changes: dict[str, Any], folder: Path) -> None:
    """The smallest failures that mutations of the description found, in either of its places."""
    edit_config(folder, **changes)
    with pytest.raises(InputError, match=r"config\.json"):
        read_model(folder)
    file = folder / "model.safetensors"
    values = json.loads(metadata_of(file)["config"]) | changes
    write_tensors(
        file, {name: value.clone() for name, value in load_file(file).items()}, {"config": json.dumps(values)}
    )
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_model(folder)


@pytest.mark.parametrize("text", ["[]", "1", "null", "{", '"x"', "[" * 100_000])
def test_metadata_that_are_no_description_are_refused(text: str, folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    for metadata in ({"config": text}, {"config": "{}", "digests": text}):
        save_file(tensors, file, metadata)
        with pytest.raises(InputError, match=r"model\.safetensors"):
            read_model(folder)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": {"dtype": "F32", "shape": [0, 10**18], "data_offsets": [0, 0]}}, 0),
        ({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, 4),
        ({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}, 4),
        ({"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}, 2),
        ({"a": {"dtype": "F8_E5M2", "shape": [4], "data_offsets": [0, 4]}}, 4),
        ({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, 8),
        ({"a": []}, 0),
        ([], 0),
    ],
)
def test_headers_that_claim_what_is_not_there_are_refused(header: object, data: int, folder: Path) -> None:
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    with pytest.raises(InputError, match=str(folder)):
        Detector.from_pretrained(folder, device="cpu")


def test_an_edited_configuration_is_used_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_model(folder)
    assert capsys.readouterr().err == ""
    edit_config(folder, class_names=["cat", "fox", "ox"])
    assert read_model(folder).class_names == ["cat", "fox", "ox"]
    assert "config.json was edited after it was saved (class_names)" in capsys.readouterr().err
    edit_config(folder, origin={"metrics": {"ap": 0.9}})
    assert read_model(folder).origin == {"metrics": {"ap": 0.9}}
    assert "origin" in capsys.readouterr().err


def test_a_configuration_that_cannot_be_read_can_be_deleted(folder: Path) -> None:
    before = read_model(folder)
    (folder / "config.json").write_text('{"class_names": ["cat" "dog"]}')
    with pytest.raises(InputError, match=r"config\.json is not valid JSON.*delete it"):
        read_model(folder)
    (folder / "config.json").unlink()
    assert same(read_model(folder), before)


def test_a_reader_beside_a_writer_always_gets_a_whole_model(detector: Detector, folder: Path) -> None:
    first = read_model(folder)
    second = SavedModel(first.config, ["a", "b", "c"], [1, 2, 3], {k: v.clone() + 1 for k, v in first.weights.items()})
    write_model(folder.with_name("other"), second)
    for names in (("model.safetensors", "config.json"), ("model.safetensors",)):
        for name in names:  # as after each moment of a save
            (folder.with_name("other") / name).replace(folder / name)
            assert read_model(folder).class_names == ["a", "b", "c"]
        write_model(folder.with_name("other"), second)
        write_model(folder, first)

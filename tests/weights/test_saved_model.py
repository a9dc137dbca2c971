"""Model folders: reading, writing and refused files."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from checkpoints import original_weights
from safetensors.torch import load_file, save_file
from saved_models import edit_config

from anchordetr import Detector
from anchordetr.errors import InputError
from anchordetr.weights.official import read_original
from anchordetr.weights.saved_model import read_model, write_model


def test_a_model_folder_has_two_files_with_a_format_version(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    values = json.loads((folder / "config.json").read_text())
    assert (values["format_version"], values["architecture"]) == (4, "AnchorDETR")
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_saving_a_loaded_model_writes_the_same_weights(detector: Detector, folder: Path, tmp_path: Path) -> None:
    Detector.from_pretrained(folder, device="cpu").save_pretrained(tmp_path / "again")
    first, second = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "again"))
    assert {name for name in first if first[name] != second[name]} <= {"origin", "save_id"}
    old, new = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "again"))
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())


def test_the_configuration_can_be_edited(folder: Path) -> None:
    edit_config(folder, class_names=["a", "b", "c"])
    assert read_model(folder).class_names == ["a", "b", "c"]


def test_thresholds_are_saved_edited_and_left_out(detector: Detector, folder: Path) -> None:
    detector.threshold, detector.class_thresholds = 0.25, {"cat": 0.5, "dog": 0.125}
    detector.save_pretrained(folder)
    loaded = Detector.from_pretrained(folder, device="cpu")
    assert (loaded.threshold, loaded.class_thresholds) == (0.25, {"cat": 0.5, "dog": 0.125})
    renamed = read_model(folder).with_class_names(["a", "b", "c"])
    assert renamed.class_thresholds == {"a": 0.5, "b": 0.125}
    edit_config(folder, threshold=1, class_thresholds={"ox": 0.75, "a class that is gone": 0.5})
    saved = read_model(folder)
    assert (saved.threshold, saved.class_thresholds) == (1, {"ox": 0.75})


def test_a_model_of_an_earlier_version_has_the_usual_threshold(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    del values["threshold"], values["class_thresholds"]
    (folder / "config.json").write_text(json.dumps(values))
    assert (read_model(folder).threshold, read_model(folder).class_thresholds) == (0.5, {})


@pytest.mark.parametrize(
    "changes",
    [
        *({"threshold": value} for value in (-0.1, 1.5, 10**400, True, None, "0.5", [0.5])),
        *({"class_thresholds": value} for value in (None, [0.5], {"cat": 2}, {"cat": None}, {"cat": "0.5"})),
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_thresholds_that_are_none_are_refused(changes: dict[str, object], folder: Path) -> None:
    edit_config(folder, **changes)
    with pytest.raises(InputError, match=r"config\.json is damaged: its threshold and class_thresholds are not all"):
        read_model(folder)


def test_the_configuration_of_another_save_is_ignored(detector: Detector, folder: Path) -> None:
    """A crash between the two files leaves new weights beside an old configuration."""
    old = (folder / "config.json").read_bytes()
    detector.class_names = ["new", "names", "here"]
    detector.save_pretrained(folder)
    (folder / "config.json").write_bytes(old)
    assert read_model(folder).class_names == ["new", "names", "here"]
    (folder / "config.json").unlink()
    assert Detector.from_pretrained(folder / "model.safetensors", device="cpu").class_names == ["new", "names", "here"]


def test_a_newer_format_version_is_refused(folder: Path) -> None:
    edit_config(folder, format_version=9, anchordetr_version="9.9")
    with pytest.raises(InputError, match=r"version 9.*anchordetr 9\.9.*anchordetr 0\.1\.0"):
        read_model(folder)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"model_type": "detr", "architectures": ["DetrForObjectDetection"]}, "DetrForObjectDetection"),
        ({"model_type": "yolos"}, "yolos"),
        ({"architecture": "resnet50"}, "resnet50"),
        ({}, "no model"),
    ],
)
def test_another_architecture_is_named(values: dict[str, object], name: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"config.json.* {name}.*AnchorDETR"):
        read_model(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "no config", "half a config", "no classes", "a list"])
def test_a_damaged_folder_is_named(damage: str, folder: Path) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole = weights.read_bytes()
    {
        "truncated": lambda: weights.write_bytes(whole[: len(whole) // 2]),
        "empty": lambda: weights.write_bytes(b""),
        "no config": lambda: edit_config(folder, model={"num_anchors": -3}),
        "half a config": lambda: config.write_text(config.read_text()[:100]),
        "no classes": lambda: config.write_text(json.dumps(json.loads(config.read_text()) | {"class_names": None})),
        "a list": lambda: config.write_text("[1]"),
    }[damage]()
    with pytest.raises(InputError, match=r"(model\.safetensors|config\.json) is (damaged|not valid JSON)"):
        Detector.from_pretrained(folder, device="cpu")


def test_weights_of_another_shape_list_every_difference(folder: Path) -> None:
    with pytest.raises(InputError, match=r"10 differences.*patterns\.weight is 2×32 instead of 5×32") as error:
        Detector.from_pretrained(folder, device="cpu", settings={"model.num_patterns": 5, "model.ffn_dim": 64})
    assert "linear1.weight is 32×32 instead of 64×32" in str(error.value)


def test_a_failed_write_keeps_the_old_model(detector: Detector, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def break_off(tensors: object, file: Path, metadata: object = None) -> None:
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("anchordetr.weights.tensor_file.save_file", break_off)
    with pytest.raises(OSError, match="No space left"):
        detector.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saves_are_atomic(detector: Detector, folder: Path) -> None:
    """One thread alternately saves two models into one folder; a reader always gets one of them completely."""
    other = Detector(detector.config, ["a", "b", "c"], device="cpu")
    with torch.no_grad():
        for number, model in enumerate((detector, other)):
            model.model.heads.class_head.bias.fill_(number)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            other.save_pretrained(folder)
            detector.save_pretrained(folder)

    detector.save_pretrained(folder)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            weights = load_file(folder / "model.safetensors")
            assert weights["heads.class_head.bias"].unique().numel() == 1
            assert weights.keys() == detector.model.state_dict().keys()
            json.loads((folder / "config.json").read_text())
    finally:
        stop.set()
        writer.join()


def test_half_precision_is_half_the_size_and_close(tmp_path: Path) -> None:
    torch.save(original_weights(), tmp_path / "model_c5.pth")
    saved = read_original(tmp_path / "model_c5.pth")
    for precision in ("fp32", "fp16", "bf16"):
        write_model(tmp_path / precision, saved, precision)
    sizes = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("fp32", "fp16", "bf16")}
    assert max(sizes["fp16"], sizes["bf16"]) < 0.52 * sizes["fp32"]
    half = Detector.from_pretrained(tmp_path / "fp16", device="cpu").model.state_dict()
    assert {tensor.dtype for tensor in half.values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(half, saved.weights, atol=1e-3, rtol=1e-3)
    assert torch.equal(half["queries.anchors.points"], saved.weights["queries.anchors.points"])

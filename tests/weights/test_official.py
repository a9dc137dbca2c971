"""Checkpoints of the original and of detrex: conversion in both directions, and refused files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Weights, assert_same, detrex, official, original_weights
from commands import call
from pseudo_weights import pseudo_image, pseudo_state_dict

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.layouts.coco_classes import COCO_CLASSES
from anchordetr.errors import InputError
from anchordetr.weights.official import read_original, write_original
from anchordetr.weights.saved_model import read_model


@pytest.mark.parametrize("case", ["r50_c5", "r50_dc5"])
def test_golden_cases_through_the_convert_command(
    case: str,
    tmp_path: Path,
    golden: Callable[[str], Weights],
    golden_json: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = pseudo_state_dict(golden_json(f"keys_{case}"))
    file = tmp_path / "checkpoint.pth"
    torch.save(official(state, dilation=case == "r50_dc5"), file)
    assert call("convert", file, tmp_path / "model", "--json") == 0
    printed = capsys.readouterr()
    assert "Reading" in printed.err
    assert "Writing" in printed.err
    facts = json.loads(printed.out)
    assert facts["features"] == f"{case.removeprefix('r50_')}, from the file's arguments"
    assert facts["bytes"] == sum(part.stat().st_size for part in (tmp_path / "model").iterdir())

    detector = Detector.from_pretrained(tmp_path / "model", device="cpu")
    assert dict(zip(detector.category_ids, detector.class_names, strict=True)) == COCO_CLASSES
    tensors = golden(case)
    with torch.no_grad():
        predictions = detector.model([pseudo_image(*row) for row in tensors["images"].tolist()])
    expected = tensors["logits"][..., list(COCO_CLASSES)]
    torch.testing.assert_close(predictions.logits[-1][:, ::9], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(predictions.boxes[-1], tensors["boxes"], atol=1e-5, rtol=0)

    assert call("convert", tmp_path / "model", tmp_path / "back.pth", "--to", "official") == 0
    assert_same(torch.load(tmp_path / "back.pth", weights_only=True)["model"], state)


@pytest.mark.parametrize("rows", [20, 1])
def test_heads_of_other_sizes_reproduce_the_original(
    rows: int, tmp_path: Path, golden: Callable[[str], Weights], golden_json: Callable[[str], Any]
) -> None:
    state = pseudo_state_dict(golden_json("keys_r50_c5"))
    state = {key: value[:rows] if "class_embed" in key else value for key, value in state.items()}
    file = tmp_path / "mine_c5.pth"
    torch.save(state, file)
    detector = Detector.from_pretrained(file, device="cpu")
    assert detector.category_ids == list(range(rows))
    tensors = golden("r50_c5")
    with torch.no_grad():
        predictions = detector.model([pseudo_image(*tensors["images"][0].tolist())])
    torch.testing.assert_close(predictions.logits[-1][:, ::9], tensors["logits"][:1, :, :rows], atol=1e-4, rtol=0)
    torch.testing.assert_close(predictions.boxes[-1], tensors["boxes"][:1], atol=1e-5, rtol=0)


def test_detrex_and_the_original_give_the_same_model(tmp_path: Path) -> None:
    state = original_weights()
    torch.save(official(state, dilation=True), tmp_path / "original.pth")
    torch.save({"model": detrex(state), "iteration": 7}, tmp_path / "converted_anchor_detr_r50_dc5_50ep.pth")
    first = read_original(tmp_path / "original.pth")
    second = read_original(tmp_path / "converted_anchor_detr_r50_dc5_50ep.pth")
    assert_same(first.weights, second.weights)
    assert first.config == second.config
    assert (first.class_names, first.category_ids) == (second.class_names, second.category_ids)
    assert second.origin["format"] == "detrex"


@pytest.mark.parametrize(
    ("name", "flag", "arguments", "expected"),
    [
        ("AnchorDETR_r50_c5.pth", None, {}, "c5, from the file's name"),
        ("AnchorDETR_r50_dc5.pth", None, {}, "dc5, from the file's name"),
        ("converted_anchor_detr_r101_50ep.pth", None, {}, "c5, from the file's name"),
        ("AnchorDETR_r50_dc5.pth", None, {"dilation": False}, "c5, from the file's arguments"),
        ("model.pth", "dc5", {"dilation": "False"}, "dc5, from --features"),
    ],
)
def test_the_feature_level_has_a_source(
    name: str, flag: str | None, arguments: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    state = original_weights()
    torch.save(official(state, **arguments) if arguments else state, tmp_path / name)
    assert read_original(tmp_path / name, flag).origin["features"] == expected


def test_an_unknown_feature_level_is_refused(tmp_path: Path) -> None:
    torch.save(original_weights(), tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"model\.pth: .*features=.c5. or features=.dc5."):
        read_original(tmp_path / "model.pth")


def test_rows_without_a_category_give_no_detections(tmp_path: Path) -> None:
    state = original_weights()
    for copy in range(2):
        state[f"transformer.class_embed.{copy}.bias"] = torch.full((91,), -9.0)
        state[f"transformer.class_embed.{copy}.bias"][12] = 9.0  # an id that no category has
    torch.save(state, tmp_path / "model_c5.pth")
    found = Detector.from_pretrained(tmp_path / "model_c5.pth", device="cpu").predict(
        torch.zeros(3, 64, 64, dtype=torch.uint8), threshold=0.0
    )
    assert set(found.data["category_id"]) <= set(COCO_CLASSES)
    assert found.confidence.max() < 0.5


def test_conversion_to_the_original_and_back_is_exact(small_config: Config, tmp_path: Path) -> None:
    changes = {"model.backbone": "resnet18.tv_in1k", "model.features": "dc5", "model.encoder_loss": False}
    detector = Detector(small_config.updated(changes), ["cat", "dog", "ox"], [4, 8, 15], device="cpu")
    detector.save_pretrained(tmp_path / "model")
    assert call("convert", tmp_path / "model", tmp_path / "out.pth", "--to", "original") == 0
    assert len(torch.load(tmp_path / "out.pth", weights_only=True)["model"]["transformer.class_embed.1.bias"]) == 16
    back = Detector.from_pretrained(tmp_path / "out.pth", device="cpu")
    assert_same(back.model.state_dict(), detector.model.state_dict())
    assert (back.class_names, back.category_ids, back.config) == (["cat", "dog", "ox"], [4, 8, 15], detector.config)


def test_unused_rows_are_kept_in_a_model_folder(tmp_path: Path) -> None:
    state = original_weights()
    torch.save(state, tmp_path / "model_c5.pth")
    Detector.from_pretrained(tmp_path / "model_c5.pth", device="cpu").save_pretrained(tmp_path / "model")
    write_original(tmp_path / "back.pth", read_model(tmp_path / "model"))
    assert_same(torch.load(tmp_path / "back.pth", weights_only=True)["model"], state)


def test_convert_renames_classes_and_overwrites_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(original_weights(num_classes=2), tmp_path / "mine_c5.pth")
    arguments = ["convert", tmp_path / "mine_c5.pth", tmp_path / "model"]
    assert call(*arguments, "--class-names", "one") == 2
    assert "1 class names" in capsys.readouterr().err
    assert call(*arguments, "--class-names", "cat, dog") == 0
    assert read_model(tmp_path / "model").class_names == ["cat", "dog"]
    assert call(*arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert call(*arguments, "--overwrite") == 0
    assert read_model(tmp_path / "model").class_names == ["class 0", "class 1"]


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("where", ["model", "args", "root"])
def test_a_malicious_pickle_is_never_run(
    where: str, new_format: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload, file = tmp_path / "payload", tmp_path / "model_c5.pth"
    content = official(original_weights(), dilation=False)
    content = Payload(payload) if where == "root" else content | {where: Payload(payload)}
    torch.save(content, file, _use_new_zipfile_serialization=new_format)
    for command in (
        ["convert", file, tmp_path / "out"],
        ["eval", "--weights", file, "--data", "shapes"],
        ["train", "--weights", file, "--data", "shapes", "--output-dir", tmp_path / "run"],
    ):
        assert call(*command) == 1
        error = capsys.readouterr().err
        assert str(file) in error
        assert "refused" in error
        assert "mkdir" in error
    assert not payload.exists()
    assert not (tmp_path / "out").exists()
    torch.load(file, weights_only=False)  # the payload works
    assert payload.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"query_embed.weight": torch.zeros(2, 2)}, "not those of an Anchor DETR.*those of DETR"),
        ({"layer4.0.conv1.weight": torch.zeros(2)}, "those of a ResNet"),
        ({"model": {}}, "no weights"),
        ({"epoch": 3}, "no weights"),
        ([1, 2], "a list"),
    ],
)
def test_another_architecture_is_named(content: Any, problem: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model_c5.pth")
    with pytest.raises(InputError, match=problem) as error:
        read_original(tmp_path / "model_c5.pth")
    assert "model_c5.pth" in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise", "text"])
def test_a_damaged_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "model_c5.pth"
    torch.save(original_weights(), file)
    whole = file.read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "empty": b"", "noise": bytes(range(256)) * 64, "text": b"<html>"}
    file.write_bytes(content[damage])
    with pytest.raises(InputError, match=r"model_c5\.pth is damaged"):
        read_original(file)


def test_missing_and_misshapen_parameters_are_all_listed(tmp_path: Path) -> None:
    state = original_weights()
    del state["transformer.encoder_layers.1.norm1.weight"]
    state["transformer.adapt_pos1d.0.weight"] = torch.zeros(3, 5)
    torch.save(state, tmp_path / "model_c5.pth")
    with pytest.raises(InputError, match=r"2 differences.*missing encoder.*mlp_1d\.0\.weight is 3×5 instead of 32×32"):
        read_original(tmp_path / "model_c5.pth")

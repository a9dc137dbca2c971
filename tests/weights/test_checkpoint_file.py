"""Checkpoints that claim more than they hold, or hold other things than weights."""

from __future__ import annotations

import argparse
import io
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import official, original_weights
from torch import Tensor

from anchordetr.errors import InputError
from anchordetr.weights.checkpoint_file import load_safely
from anchordetr.weights.official import read_original, write_original

SMALL_HEAD = "transformer.class_embed.0.weight"
COUNT = 1_000_000


def parts() -> dict[str, bytes]:
    """Return the parts of an archive of torch.save."""
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(COUNT)}, stream)
    with zipfile.ZipFile(stream) as archive:
        return {part.filename: archive.read(part) for part in archive.infolist()}


def write_archive(file: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, part in content.items():
            archive.writestr(name, part)


def test_a_compressed_archive_is_refused_with_its_sizes(tmp_path: Path) -> None:
    write_archive(tmp_path / "bomb.pth", parts(), zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"bomb\.pth is refused: it has .* bytes and its parts claim 4,000,"):
        load_safely(tmp_path / "bomb.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_tensor_that_claims_more_values_than_there_are_is_refused(kind: str, tmp_path: Path) -> None:
    file, claim = tmp_path / "claim.pth", (struct.pack("<I", COUNT), struct.pack("<I", 2**31 - 1))
    if kind == "zip":
        write_archive(file, {name: part.replace(*claim) if "pkl" in name else part for name, part in parts().items()})
    else:
        torch.save({"a": torch.zeros(COUNT)}, file, _use_new_zipfile_serialization=False)
        file.write_bytes(file.read_bytes().replace(*claim))
    with pytest.raises(InputError, match=r"claim\.pth is damaged"):
        load_safely(file)


@pytest.mark.parametrize(
    "program",
    [b"]" * 5000 + b"a" * 4999 + b".", b"\x8b\xff\xff\xff\x7f1.", b"]r\xff\xff\xff\xff.", b"", b"N", b"0.", b"(."],
    ids=["deep", "long", "memo", "empty", "no end", "empty stack", "mark"],
)
def test_pickles_that_are_no_checkpoint_are_refused(program: bytes, tmp_path: Path) -> None:
    content = {name: b"\x80\x02" + program if "pkl" in name else part for name, part in parts().items()}
    write_archive(tmp_path / "x.pth", content)
    with pytest.raises(InputError, match=r"x\.pth (is damaged|contains a list)") as error:
        load_safely(tmp_path / "x.pth")
    assert "Re-running" not in str(error.value)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(1).expand(10**6, 10**6), "no dense tensor"),
        (torch.zeros(4, 32).to_sparse(), "(no dense|sparse) tensor"),
        (torch.empty(10**6, 10**6, device="meta"), "no dense tensor"),
        (torch.zeros(4, 32, dtype=torch.complex64), "no dense tensor"),
        (torch.zeros(4, 32).to(torch.float8_e5m2), "no dense tensor"),
        (torch.zeros(()), "another shape"),
        (torch.zeros(0), "another shape"),
        (torch.zeros(4, 32, 1), "another shape"),
        (torch.full((4, 32), float("nan")), "not finite"),
    ],
    ids=lambda value: f"{value.layout} {value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else value,
)
def test_a_class_head_of_another_kind_is_refused(tensor: Tensor, words: str, tmp_path: Path) -> None:
    state = original_weights(num_classes=4)
    state = {
        key: value for key, value in state.items() if not key.startswith(("backbone", "transformer.class_embed.1"))
    }
    torch.save(state | {SMALL_HEAD: tensor}, tmp_path / "model_c5.pth")
    with pytest.raises(InputError, match=rf"model_c5\.pth.*{words}"):
        read_original(tmp_path / "model_c5.pth")


@pytest.mark.parametrize("arguments", [{"nheads": "eight"}, {"nheads": 7}, {"nheads": [8]}, {"num_query_position": -1}])
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    state = original_weights(num_classes=4, anchors="grid")
    checkpoint = {"model": state, "args": argparse.Namespace(dilation=False, **arguments)}
    torch.save(checkpoint, tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"model\.pth.*not those of an Anchor DETR"):
        read_original(tmp_path / "model.pth")


@pytest.mark.parametrize("ids", [[-1, 2], [0, 10**6], [0, 0.5], None, "list"])
def test_a_description_that_does_not_fit_its_head_is_refused(ids: Any, own: dict[str, Any], tmp_path: Path) -> None:
    description = [1] if ids == "list" else own["anchordetr"] | {"category_ids": ids}
    torch.save(own | {"anchordetr": description}, tmp_path / "own.pth")
    with pytest.raises(InputError, match=r"own\.pth"):
        read_original(tmp_path / "own.pth")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a checkpoint that this library wrote, without its backbone."""
    folder = tmp_path_factory.mktemp("own")
    torch.save(original_weights(num_classes=2), folder / "model_c5.pth")
    write_original(folder / "own.pth", read_original(folder / "model_c5.pth"))
    checkpoint = torch.load(folder / "own.pth", weights_only=True)
    return checkpoint | {"model": {key: value for key, value in checkpoint["model"].items() if "backbone" not in key}}


def test_names_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(2)}, tmp_path / "model_c5.pth")
    with pytest.raises(InputError, match=r"model_c5\.pth contains no weights"):
        read_original(tmp_path / "model_c5.pth")


def test_checkpoints_are_read_in_several_threads(tmp_path: Path) -> None:
    torch.save(official({"a": torch.zeros(2)}), tmp_path / "model.pth")
    with ThreadPoolExecutor(8) as pool:
        assert all("args" in checkpoint for checkpoint in pool.map(load_safely, [tmp_path / "model.pth"] * 200))

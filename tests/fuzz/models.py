"""Files of saved models, of training states, and of the original's checkpoints."""

from __future__ import annotations

import argparse
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from checkpoints import official, original_weights
from fuzz.mutations import VALUES, mutated_bytes, mutated_document, mutated_text
from fuzz.outcome import FileTarget
from saved_models import smallest_config

from anchordetr import Detector
from anchordetr.training.state import FORMAT_VERSION, STATE_FILE
from anchordetr.weights.folder import CONFIG_FILE, WEIGHTS_FILE
from anchordetr.weights.official import read_original
from anchordetr.weights.saved_model import read_model

TENSORS = (
    torch.zeros(0),
    torch.zeros(()),
    torch.full((2,), torch.nan),
    torch.ones(2, dtype=torch.int64),
    torch.zeros(2, dtype=torch.complex64),
    torch.zeros(1).expand(1000, 1000),
    torch.zeros(4, 32).to_sparse(),
)


def save_small_model(folder: Path) -> Detector:
    detector = Detector(smallest_config(num_classes=2), ["cat", "dog"], [3, 7], device="cpu")
    detector.save_pretrained(folder)
    return detector


def weights(folder: Path) -> FileTarget:
    """Return the weights file of a saved model."""
    save_small_model(folder)
    (folder / CONFIG_FILE).unlink()
    file = folder / WEIGHTS_FILE
    whole = file.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header, values = json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def mutate(random: Random) -> bytes:
        if random.randrange(2):
            return mutated_bytes(whole, random)
        changed = dict(header)
        if random.randrange(2):
            changed = mutated_document(header, random)
        else:
            metadata = {key: value for key, value in header["__metadata__"].items() if key != "digests"}
            description = {**json.loads(metadata["config"]), "format_version": 2}
            changed["__metadata__"] = {**metadata, "config": json.dumps(mutated_document(description, random))}
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + values

    return FileTarget(file, lambda: read_model(folder), mutate)


def config(folder: Path) -> FileTarget:
    """Return the ``config.json`` of a saved model."""
    save_small_model(folder)
    file = folder / CONFIG_FILE
    text = file.read_text()
    document = json.loads(text)

    def mutate(random: Random) -> bytes:
        if random.randrange(4) == 0:
            return mutated_text(text, random)
        return json.dumps(mutated_document(document, random)).encode()

    return FileTarget(file, lambda: read_model(folder), mutate)


def state(folder: Path) -> FileTarget:
    """Return the state of a training run, from which its detector is made again."""
    identity = {"class_names": ["cat", "dog"], "category_ids": [3, 7], "started_from": {}}
    progress = {"steps_done": 3, "epoch": 1, "history": [{"epoch": 1, "ap": 0.5}], "model": {"a": torch.ones(2)}}
    document = {"format_version": FORMAT_VERSION, "config": smallest_config(num_classes=2).model_dump(mode="json")}
    (folder / "last").mkdir()
    return FileTarget(
        folder / "last" / STATE_FILE,
        lambda: Detector.from_run(folder, "cpu"),
        lambda random: mutated_archive({**document, **identity, **progress}, random),
        named=str(folder),
    )


def checkpoint(folder: Path) -> FileTarget:
    """Return a checkpoint of the original implementation."""
    weights = original_weights(4)
    zeros = torch.zeros(max(map(torch.numel, weights.values())), dtype=torch.float16)  # shared, so that files are small
    state = {
        name: zeros[: value.numel()].view(value.shape) if name.startswith("backbone") else value
        for name, value in weights.items()
    }
    document = official(state) | {"args": {"nheads": 8, "dilation": False, "num_query_position": 9}}
    file = folder / "checkpoint_c5.pth"
    return FileTarget(file, lambda: read_original(file), lambda random: mutated_archive(document, random))


def mutated_archive(document: Mapping[str, Any], random: Random) -> bytes:
    """Return what ``torch.save`` writes of a mutated document, or its mutated bytes."""
    kind = random.randrange(3)
    changed = document if kind == 0 else mutated_document(document, random, (*VALUES, *TENSORS))
    if isinstance(changed, dict) and isinstance(arguments := changed.get("args"), dict):
        changed = {**changed, "args": argparse.Namespace(**{str(key): value for key, value in arguments.items()})}
    content = archive(changed, random.randrange(4) > 0)
    return mutated_bytes(content, random) if kind == 0 else content


def archive(content: Any, zipped: bool = True) -> bytes:
    """Return what ``torch.save`` writes, as a zip archive or in its older format."""
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()

"""Reading and writing of safetensors files whose metadata hold a digest of each tensor.

Only the values, shapes and types that were saved are read again: a changed bit anywhere in the file is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from anchordetr.documents import parse_json
from anchordetr.errors import InputError, listed, reason
from anchordetr.files import write_atomically
from anchordetr.weights.checks import DTYPES
from anchordetr.weights.foreign_files import check_content, first_bytes, is_pickle

_DIGESTS = "digests"
_METADATA = "__metadata__"  # a name that the format forbids for tensors
_THREADS = 4
_NAMED = 3


@dataclass(frozen=True)
class TensorFile:
    """The content of a safetensors file.

    Attributes:
        tensors: on the CPU, mapped from the file.
        metadata: without the digests.
        is_verified: whether the file had digests; they agreed.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    is_verified: bool


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically, with digests of its tensors and its metadata.

    Args:
        file: replaced if it exists.
        tensors: contiguous, on the CPU.
        metadata: further texts to store.
    """
    stored = {"format": "pt", **metadata}
    digests = json.dumps(_digests(tensors, stored))
    size = sum(tensor.nbytes for tensor in tensors.values())
    write_atomically(file, lambda temporary: save_file(dict(tensors), temporary, {**stored, _DIGESTS: digests}), size)


def read_tensors(file: Path) -> TensorFile:
    """Return the content of a safetensors file; its digests are checked if there are any.

    Raises:
        InputError: the file is missing, no regular file, damaged, or of another format.
    """
    check_content(file)
    if is_pickle(first_bytes(file)):
        raise InputError(
            f"{file} is damaged: it was written by torch.save, not in the safetensors format. If it is a checkpoint of "
            "the original or of detrex, rename it to end in .pth."
        )
    try:
        with safe_open(file, "pt") as opened:  # once: a second one may open the next save
            metadata = dict(opened.metadata() or {})
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
    except Exception as error:
        raise InputError(f"{file} is damaged: {reason(error)}. Save or fetch it again.") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise InputError(f"{file} is refused: {name} has the type {tensor.dtype}, which no weights here have.")
    digests = metadata.pop(_DIGESTS, None)
    if digests is not None:
        _check_digests(file, digests, _digests(tensors, metadata))
    return TensorFile(tensors, metadata, digests is not None)


def _check_digests(file: Path, stored: str, computed: Mapping[str, str]) -> None:
    expected = parse_json(stored, f"{file} is damaged: its list of digests")
    if not isinstance(expected, dict):
        raise InputError(f"{file} is damaged: its list of digests is no JSON object. Save or fetch it again.")
    changed = sorted(name for name in expected.keys() | computed.keys() if expected.get(name) != computed.get(name))
    if changed:
        raise InputError(
            f"{file} is damaged: {len(changed)} of {len(computed)} parts differ from the digests stored with them "
            f"({listed(changed, _NAMED)}). Save or fetch it again; if you changed it on purpose, save its tensors "
            "without metadata."
        )


def _digests(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a digest of each tensor, and one of all metadata."""
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:  # hashing releases the interpreter's lock
        digests = dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))
    return digests | {_METADATA: _hash(json.dumps(sorted(metadata.items())).encode()).hexdigest()}


def _digest(tensor: Tensor) -> str:
    digest = _hash(f"{tensor.dtype} {list(tensor.shape)} ".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _hash(content: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(content, digest_size=16)

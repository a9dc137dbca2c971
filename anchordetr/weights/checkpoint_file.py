"""Reading of files that ``torch.save`` wrote, without running pickled code and within the size of the file."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anchordetr.errors import InputError, reason
from anchordetr.weights.checks import DTYPES
from anchordetr.weights.foreign_files import check_content, first_bytes, is_safetensors

log = logging.getLogger("anchordetr")

_ALLOWING = threading.Lock()  # torch's list of allowed classes is one of the process


def load_safely(path: Path) -> dict[str, Any]:
    """Return a checkpoint of tensors, plain containers and ``argparse.Namespace``; other pickled objects are refused.

    Raises:
        InputError: the file is missing, no regular file, damaged, or contains any other object.
    """
    check_content(path)
    if is_safetensors(first_bytes(path)):
        raise InputError(
            f"{path} is damaged: it is in the safetensors format. If it is a saved model, call it model.safetensors."
        )
    _check_archive(path)
    if torch.__version__ < "2.10":
        log.warning(
            "Reading %s with torch %s, in which a malicious checkpoint can corrupt memory (CVE-2026-24747): update "
            "torch to 2.10, or read only files that you trust.",
            path,
            torch.__version__,
        )
    try:
        with _ALLOWING, torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise InputError(f"{path} is damaged, or is not a checkpoint: {_reason(error)}.") from error
        raise InputError(
            f"{path} is refused: it asks to run {code[1]}, which weights do not need. Nothing was run. "
            "If you trust its author, ask for a plain state dict."
        ) from error
    except Exception as error:
        raise InputError(f"{path} is damaged, or is not a checkpoint: {_reason(error)}.") from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} contains a {type(checkpoint).__name__}, not a checkpoint with weights.")
    return checkpoint


def require_tensors(state: Any, path: Path) -> dict[str, Tensor]:
    """Return a state dict whose tensors are what they seem: dense, on the CPU, with memory for each value.

    Raises:
        InputError: it is no state dict, or a tensor is of another kind.
    """
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} contains no weights: it needs a state dict, or one under 'model'.")
    if not all(isinstance(name, str) for name in state):
        raise InputError(f"{path} contains no weights: the names in its state dict are not all texts.")
    unusual = [name for name, tensor in state.items() if not _is_plain(tensor)]
    if unusual:
        raise InputError(
            f"{path} is refused: {unusual[0]} is no dense tensor of numbers with memory of its own. Ask its author for "
            "a plain state dict."
        )
    return state


def _reason(error: Exception) -> str:
    """Return torch's reason without its advice to run what is in the file."""
    text = re.split(r"Weights only load failed|In PyTorch 2\.6", reason(error))[0].strip().rstrip(".")
    return text or "torch.save did not write it so"


def _is_plain(tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
        return False
    return tensor.dtype in DTYPES and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _check_archive(path: Path) -> None:
    """Check that the parts of a zip archive are not larger than the archive: ``torch.save`` does not compress.

    Raises:
        InputError: they are, or the archive is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(part.file_size for part in archive.infolist())
    except Exception as error:
        raise InputError(f"{path} is damaged, or is not a checkpoint: {reason(error)}.") from error
    size = path.stat().st_size
    if claimed > size:
        raise InputError(
            f"{path} is refused: it has {size:,} bytes and its parts claim {claimed:,}. torch.save does not compress; "
            "ask its author for a plain checkpoint."
        )

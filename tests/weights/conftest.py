"""A local file server, and a saved model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import Handler, Server

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.weights import download as download_module


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "_PAUSE", 0.0)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content, server.faults, server.ranges = bytes(range(256)) * 5000, [], []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def detector(small_config: Config) -> Detector:
    return Detector(small_config, ["cat", "dog", "ox"], [4, 8, 15], device="cpu")


@pytest.fixture
def folder(detector: Detector, tmp_path: Path) -> Path:
    """The folder of a saved model."""
    detector.save_pretrained(tmp_path / "model")
    return tmp_path / "model"

"""A local file server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from file_server import Handler, Server

from anchordetr.weights import download as download_module


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "_PAUSE", 0.0)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content, server.faults, server.ranges = bytes(range(256)) * 5000, [], []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()

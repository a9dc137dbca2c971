"""Servers that do not respond are noticed within seconds, and what other libraries log is kept from users."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from anchordetr.web import is_reachable, only_errors

CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def open_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_open_and_a_closed_port(open_port: int) -> None:
    assert is_reachable(f"http://127.0.0.1:{open_port}/file")
    assert not is_reachable(CLOSED)
    for address in ("", "http://", "http://127.0.0.1:port", f"http://{'x' * 300}/"):
        assert not is_reachable(address)


def test_a_name_server_that_does_not_respond_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, responded = threading.Event(), threading.Event()

    def wait(*arguments: object) -> None:
        asked.set()
        responded.wait(30)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", wait)
    assert not is_reachable("http://name", seconds=0.2)
    assert asked.is_set()
    responded.set()


def test_a_proxy_is_what_has_to_be_reached(open_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy in (f"http://127.0.0.1:{open_port}", f"127.0.0.1:{open_port}"):
        monkeypatch.setenv("http_proxy", proxy)
        assert is_reachable("http://nowhere.invalid")
    monkeypatch.setenv("http_proxy", CLOSED)
    assert not is_reachable("http://nowhere.invalid")


def test_notes_of_other_libraries_are_kept_away(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some_library.part")
    with only_errors("some_library"):
        logger.warning("unexpected keys")
        logger.error("broken")
    logger.warning("afterwards")
    assert [record.message for record in caplog.records] == ["broken", "afterwards"]

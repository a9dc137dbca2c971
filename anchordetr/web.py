"""Connections to web addresses: http and https only."""

from __future__ import annotations

import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_SECONDS = 5.0


def web_opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Return an opener without urllib's handlers of ftp, file and data, to which a server could redirect.

    Args:
        handlers: of http, https and redirects.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        *handlers,
    ):
        opener.add_handler(handler)
    return opener


def is_reachable(address: str, seconds: float = _SECONDS) -> bool:
    """Return whether the server of an address, or the proxy to it, takes a connection within some seconds.

    Name servers and firewalls that do not respond are left behind in a thread, since their own limits are minutes.
    """
    target = urlsplit(address)
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    connected = threading.Event()

    def connect() -> None:
        try:
            port = target.port or (80 if target.scheme == "http" else 443)
            socket.create_connection((target.hostname or "", port), seconds).close()
            connected.set()
        except (OSError, ValueError):  # ValueError: an invalid port or host name
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return connected.is_set()


@contextmanager
def only_errors(*libraries: str) -> Iterator[None]:
    """Keep what other libraries log below the level of an error from users, who did not ask them."""
    loggers = [logging.getLogger(name) for name in libraries]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Images at web addresses: http and https only, bounded in time and bytes over all redirects."""

from __future__ import annotations

import io
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit, urlunsplit

from anchordetr.errors import InputError, reason
from anchordetr.files import MEBIBYTE
from anchordetr.web import web_opener

ADDRESS_SECONDS = 60.0
"""The time that one address may take, from the connection to the last byte, with all redirects."""
ADDRESS_BYTES = 256 * MEBIBYTE
"""The bytes that one address may send, with all redirects."""

_SHOWN_CHARACTERS = 200
_RESERVED = "/:@!$&'()*+,;=~?%"  # characters of a path or a query that are sent as they are


def is_address(source: object) -> bool:
    """Return whether a source is a web address, of any scheme (``https://...``)."""
    return isinstance(source, str) and re.match(r"[a-z][a-z0-9+.-]+://", source, re.IGNORECASE) is not None


def shortened(text: str) -> str:
    """Return a name for a message, with the middle of a very long one left out."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[: _SHOWN_CHARACTERS - 40]}...{text[-37:]}"


def fetch(address: str) -> bytes:
    """Return the content of an address.

    Args:
        address: http or https, with or without quoting of spaces and other characters.

    Raises:
        InputError: the address is not valid or of another scheme, the server cannot be reached, refuses, ends early,
            or goes on beyond :data:`ADDRESS_SECONDS` or :data:`ADDRESS_BYTES`.
    """
    try:
        return _content(address)
    except HTTPError as error:
        raise InputError(f"{shortened(address)} could not be fetched: {reason(error)}.") from error
    except URLError as error:
        cause = error.reason
        text = reason(cause) if isinstance(cause, BaseException) else cause
        raise InputError(f"{shortened(address)} could not be fetched: {text}.") from error
    except HTTPException as error:  # a body cut short, a broken status line, ...
        text = f"the response is not valid HTTP ({type(error).__name__}: {reason(error)})"
        raise InputError(f"{shortened(address)} could not be fetched: {text}.") from error
    except Exception as error:  # an invalid address, wrong chunks, a length beyond the memory, ...
        without_password = re.sub("//[^/?#]*@", "//", address)
        raise InputError(f"{shortened(without_password)} could not be fetched: {reason(error)}.") from error


def quoted(address: str) -> str:
    """Return an address in ASCII, as it is sent to a server.

    Raises:
        InputError: it is not a valid http or https address, or holds a user name.
        ValueError: its host or port is not valid.
    """
    if re.search(r"[\x00-\x1f\x7f]", address):
        raise InputError("the address holds control characters")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise InputError(f"only http and https addresses are read, not {parts.scheme}")
    if "@" in parts.netloc:
        raise InputError("addresses with a user name or a password are not read; download the image first")
    if not parts.hostname:
        raise InputError("the address names no host")
    host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port is None else f":{parts.port}"
    path, query = (quote(re.sub("%(?![0-9a-fA-F]{2})", "%25", part), _RESERVED) for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host + port, path.replace("?", "%3F"), query, ""))


def _content(address: str) -> bytes:
    request = urllib.request.Request(quoted(address), headers={"User-Agent": "anchordetr"})
    with ExitStack() as responses:
        opener = web_opener(_BoundedHandler(_Budget(), responses), _QuotedRedirects())
        response = opener.open(request, timeout=ADDRESS_SECONDS)
        if (response.length or 0) > ADDRESS_BYTES:
            raise InputError(_too_large())
        if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise InputError(f"the server sent it in the encoding {encoding}, which was not asked for")
        content: bytes = response.read()
        return content


def _too_large() -> str:
    return f"it has more than {ADDRESS_BYTES:,} bytes; download it, make it smaller and give the file"


class _LimitError(Exception):
    """A limit is reached; no ``ValueError``, which ``http.client`` takes for a wrong chunk."""


class _Budget:
    """What is left of the time and the bytes of one address."""

    def __init__(self) -> None:
        self.deadline = time.monotonic() + ADDRESS_SECONDS
        self.bytes_left = ADDRESS_BYTES + MEBIBYTE  # status lines, headers and sizes of chunks count too

    def seconds(self) -> float:
        """Return the seconds that are left.

        Raises:
            _LimitError: there are none.
        """
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise _LimitError(f"it took longer than {ADDRESS_SECONDS:g} seconds; download it and give the file")
        return seconds

    def spend(self, count: int) -> None:
        """Count received bytes.

        Raises:
            _LimitError: they are more than were left.
        """
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise _LimitError(_too_large())


class _BoundedStream(io.RawIOBase):
    """The bytes of a connection, each read of them within what is left of a budget."""

    def __init__(self, connection: socket.socket, stream: io.RawIOBase, budget: _Budget) -> None:
        self.connection = connection
        self.stream = stream
        self.budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.connection.settimeout(self.budget.seconds())
        try:
            count = self.stream.readinto(buffer)
        except TimeoutError:
            self.budget.seconds()
            raise
        self.budget.spend(count or 0)
        return count

    def close(self) -> None:
        self.stream.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    """A response whose status line, headers and body are read within a budget."""

    def __init__(self, connection: socket.socket, *given: Any, budget: _Budget, **options: Any) -> None:
        super().__init__(connection, *given, **options)
        stream: Any = self.fp
        self.fp = io.BufferedReader(_BoundedStream(connection, stream.detach(), budget))


class _BoundedHandler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens connections whose responses are bounded; ``responses`` closes them."""

    def __init__(self, budget: _Budget, responses: ExitStack) -> None:
        super().__init__()
        self.budget = budget
        self.responses = responses

    def do_open(self, http_class: Callable[..., Any], req: urllib.request.Request, **options: Any) -> HTTPResponse:
        req.timeout = self.budget.seconds()

        def connection(*given: Any, **more: Any) -> Any:
            made = http_class(*given, **more)
            made.response_class = partial(_BoundedResponse, budget=self.budget)
            return made

        return self.responses.enter_context(super().do_open(connection, req, **options))


class _QuotedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows at most ten redirects, each to a valid http or https address."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        return super().redirect_request(req, fp, code, msg, headers, quoted(newurl))

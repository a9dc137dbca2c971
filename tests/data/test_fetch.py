"""Images at web addresses: what is sent, which responses are refused, and bounds in time and bytes."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from anchordetr.data import fetch
from anchordetr.data.images import load_image
from anchordetr.errors import InputError

Response = Callable[[socket.socket], object]
Serve = Callable[[Response], str]

HEAD = b"HTTP/1.1 200 OK\r\n"


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(stream, "PNG")
    return stream.getvalue()


def send(*parts: bytes) -> Response:
    return lambda connection: connection.sendall(b"".join(parts))


def image(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(png()) + png())


def redirect(location: str) -> Response:
    return send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ", location.encode(), b"\r\n\r\n")


def forever(start: bytes, content: bytes, pause: float = 0) -> Response:
    def response(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(content)
            time.sleep(pause)

    return response


@pytest.fixture
def requests() -> list[str]:
    """The first lines of the requests that servers got."""
    return []


@pytest.fixture
def serve(requests: list[str]) -> Iterator[Serve]:
    """Start servers that read a request and reply with raw bytes; return their addresses."""
    sockets: list[socket.socket] = []

    def run(server: socket.socket, response: Response) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request and (part := connection.recv(65536)):
                    request += part
                requests.append(request.split(b"\r\n")[0].decode())
                try:
                    response(connection)
                except OSError:
                    continue

    def start(response: Response) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)
        threading.Thread(target=run, args=(server, response), daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in sockets:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("", "/"),
        ("/a b/ü.png?q=ä b&c=[1]#part", "/a%20b/%C3%BC.png?q=%C3%A4%20b&c=%5B1%5D"),
        ("/a%20b%2Fc?d=%C3%BC", "/a%20b%2Fc?d=%C3%BC"),
        ("/100%.jpg", "/100%25.jpg"),
        ("/a?b?c/d;e=f+g", "/a?b?c/d;e=f+g"),
        ("/x?" + "y" * 20_000, "/x?" + "y" * 20_000),
    ],
    ids=["no path", "unquoted", "quoted", "percent", "question marks", "long query"],
)
def test_an_address_is_quoted_where_it_is_not(given: str, sent: str, serve: Serve, requests: list[str]) -> None:
    assert load_image(serve(image) + given).shape == (4, 6, 3)
    assert requests == [f"GET {sent} HTTP/1.1"]


def test_hosts_are_encoded() -> None:
    assert fetch.quoted("HTTPS://Bücher.example:8080/ä") == "https://xn--bcher-kva.example:8080/%C3%A4"
    assert fetch.quoted("http://[::1]:80/x") == "http://[::1]:80/x"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://", "names no host"),
        ("http:///x.jpg", "names no host"),
        ("http://[::1", "IPv6"),
        ("http://host:port/x.jpg", "Port"),
        ("http://host:99999/x.jpg", "Port"),
        ("http://host/x.jpg\r\nHost: other", "control characters"),
        ("http://a b/x.jpg", "could not be fetched"),
        ("http://" + "ü" * 80 + "/x.jpg", "could not be fetched"),
        ("http://\udcff/x.jpg", "could not be fetched"),
        ("http://host/\udcff.jpg", "could not be fetched"),
        ("ftp://host/x.jpg", "only http and https.*not ftp"),
        ("file:///etc/hostname", "only http and https.*not file"),
    ],
)
def test_an_address_that_is_not_valid_is_refused(address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_image(address)


def test_a_password_is_not_printed() -> None:
    with pytest.raises(InputError, match="user name or a password") as error:
        load_image("http://me:secret@host/x.jpg")
    assert "secret" not in str(error.value)


def test_a_message_shortens_a_long_address() -> None:
    with pytest.raises(InputError) as error:
        load_image("http://127.0.0.1:9/x.jpg?" + "q" * 100_000)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (send(), "closed connection"),
        (send(b"no status\r\n\r\n"), "not valid HTTP"),
        (send(b"HTTP/1.1 404 Not Found\r\n\r\n"), "404"),
        (send(b"HTTP/1.1 500 Broken\r\n\r\n"), "500"),
        (send(HEAD, b"Content-Length: 1000\r\n\r\nshort"), "IncompleteRead"),
        (send(HEAD, b"Transfer-Encoding: chunked\r\n\r\nzz\r\nbody"), "IncompleteRead"),
        (send(HEAD, b"Transfer-Encoding: chunked\r\n\r\n-5\r\nbody"), "could not be fetched"),
        (send(HEAD, b"Content-Encoding: gzip\r\n\r\nbody"), "encoding gzip"),
        (send(HEAD, b"name: value\r\n" * 1000, b"\r\n"), "100 headers"),
        (send(HEAD, b"name: ", b"v" * 100_000, b"\r\n\r\n"), "65536"),
        (send(HEAD, b"\r\nno image"), "not an image"),
        (redirect("ftp://127.0.0.1/x.jpg"), "not ftp"),
        (redirect("file:///etc/hostname"), "not allowed"),
        (redirect("data:image/png;base64,AAAA"), "not allowed"),
        (redirect("http://me:secret@127.0.0.1/"), "password"),
        (redirect("http://[::1"), "IPv6"),
        (redirect("/again"), "infinite loop"),
    ],
)
def test_a_wrong_response_is_a_skippable_error(response: Response, message: str, serve: Serve) -> None:
    address = f"{serve(response)}/ü x.jpg?q={'y' * 300}"
    with pytest.raises(InputError, match=message) as error:
        load_image(address)
    assert address[:40] in str(error.value)


def test_redirects_are_followed(serve: Serve) -> None:
    target = serve(image)
    for location in (f"{target}/ü x.png", target.removeprefix("http:"), f"HTTP{target[4:]}"):
        np.testing.assert_array_equal(load_image(serve(redirect(location)))[0, 0], [255, 0, 0])


@pytest.mark.parametrize(
    "response",
    [
        forever(HEAD + b"\r\n", b"x", 0.05),
        forever(HEAD, b"x", 0.05),
        forever(b"HTTP/1.1 2", b"0", 0.05),
        lambda connection: time.sleep(1),
    ],
    ids=["body", "headers", "status line", "nothing"],
)
def test_a_server_that_trickles_ends_at_the_limit(
    response: Response, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ADDRESS_SECONDS", 0.3)
    with pytest.raises(InputError, match=r"longer than 0\.3 seconds"):
        load_image(serve(response))


def test_all_redirects_together_have_one_limit(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ADDRESS_SECONDS", 0.3)

    def slowly(connection: socket.socket) -> None:
        time.sleep(0.2)
        redirect("/again")(connection)

    with pytest.raises(InputError, match=r"longer than 0\.3 seconds"):
        load_image(serve(slowly))


@pytest.mark.parametrize(
    "response",
    [
        forever(HEAD + b"\r\n", bytes(65536)),
        forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(4096) + b"\r\n"),
        forever(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", bytes(65536)),
        forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        send(HEAD, b"Content-Length: 1000001\r\n\r\n"),
    ],
    ids=["endless body", "endless chunks", "endless redirect", "endless status", "announced"],
)
def test_no_more_bytes_than_the_limit_are_taken(
    response: Response, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ADDRESS_BYTES", 1_000_000)
    with pytest.raises(InputError, match="more than 1,000,000 bytes"):
        load_image(serve(response))

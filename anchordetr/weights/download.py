"""Resumable download of one large file, with a check of its length."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler

from anchordetr.web import web_opener

_CHUNK = 1 << 20
_TIMEOUT = 30.0
_TRIES = 4  # consecutive failures without new bytes
_PAUSE = 1.0
_MOST_BYTES = 4 * 2**30

Progress = Callable[[int, int | None], None]


class TooLargeError(OSError):
    """A server sends more than is taken; another try would not help."""


def download(url: str, target: Path, on_progress: Progress = lambda done, total: None) -> None:
    """Download a file; a partial download in ``TARGET.part`` is resumed.

    A download is resumed only if the server identifies the version of the file (``ETag`` or ``Last-Modified``), so that
    parts of two versions are never combined.

    Args:
        url: http or https.
        target: path of the complete file.
        on_progress: called with the number of bytes so far and in total, None if the server does not send it.

    Raises:
        OSError: the address or one that it redirects to is not http or https, the server refuses the request, cannot be
            reached, fails four times in a row, or sends more than it announced or more than 4 GiB.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    failures, largest = 0, _size(part)
    while True:
        try:
            _fetch_rest(url, part, on_progress)
            break
        except TooLargeError:
            part.unlink(missing_ok=True)
            raise
        except ValueError as error:  # an invalid address or header
            raise OSError(str(error)) from error
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise
            failure: Exception = error
        except (OSError, http.client.HTTPException) as error:
            failure = error
        failures = 0 if _size(part) > largest else failures + 1
        largest = max(largest, _size(part))
        if failures == _TRIES:
            raise OSError(str(failure) or type(failure).__name__) from failure
        time.sleep(_PAUSE * failures)
    part.replace(target)
    _version_file(part).unlink(missing_ok=True)


def _fetch_rest(url: str, part: Path, on_progress: Progress) -> None:
    version_file = _version_file(part)
    version = version_file.read_text() if version_file.is_file() else ""
    start = _size(part) if version else 0
    headers = {"User-Agent": "anchordetr"} | ({"Range": f"bytes={start}-", "If-Range": version} if start else {})
    try:
        request = urllib.request.Request(url, headers=headers)
        response = web_opener(HTTPHandler(), HTTPSHandler(), HTTPRedirectHandler()).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()
        raise ConnectionError("the file on the server is shorter than the part downloaded before") from error
    with response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise ConnectionError("the server sent another range of the file than requested")
        else:
            start = 0
            part.unlink(missing_ok=True)
            version_file.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if total is not None and total > _MOST_BYTES:
            raise TooLargeError(f"the server announces {total:,} bytes; at most {_MOST_BYTES:,} are taken")
        _append(response, part, start, total, on_progress)


def _append(
    response: http.client.HTTPResponse, part: Path, done: int, total: int | None, on_progress: Progress
) -> None:
    with part.open("ab") as file:
        while chunk := response.read(_CHUNK):
            done += len(chunk)
            if done > (_MOST_BYTES if total is None else total):
                raise TooLargeError(f"the server sends more than {done - len(chunk):,} bytes")
            file.write(chunk)
            on_progress(done, total)
    if total is not None and done != total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")

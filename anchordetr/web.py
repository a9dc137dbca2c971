"""Connections to web addresses: http and https only."""

from __future__ import annotations

import urllib.request


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

"""An HTTP server of one file with configurable faults."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves ``content`` under every path; each request consumes one of ``faults``."""

    daemon_threads = True
    content = b""
    version = '"first"'
    faults: list[str]
    ranges: list[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        fault = self.server.faults.pop(0) if self.server.faults else ""
        requested = self.headers.get("Range", "")
        self.server.ranges.append(requested)
        content, start = self.server.content, 0
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault.startswith("302 "):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("302 "))
            self.end_headers()
            return
        if requested and self.headers.get("If-Range") == self.server.version and fault != "no ranges":
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            shown = start + 5 if fault == "wrong range" else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if fault != "no version":
            self.send_header("ETag", self.server.version)
        body = content[start:]
        lengths = {"too long": len(body) + 1000, "too short": len(body) // 2}
        if fault != "no length":
            self.send_header("Content-Length", str(lengths.get(fault, len(body))))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in ("aborted", "no version") else body)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None: ...

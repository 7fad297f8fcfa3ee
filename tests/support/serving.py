"""Run a stand-in's HTTP server in a thread, and serve files with ranges."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO


class Server(ThreadingHTTPServer):
    """A server that stops at once, also while connections are open."""

    daemon_threads = True
    block_on_close = False
    rate = 0  # bytes a second and connection; 0 for no limit

    @property
    def url(self) -> str:
        """Address without a slash at the end."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that hang up: tests do so on purpose."""


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Serve until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Quiet(BaseHTTPRequestHandler):
    """A handler that keeps connections open and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a whole response."""
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_file(self, path: Path, headers: dict[str, str]) -> None:
        """Send a file, or the part that the request's Range asks for (RFC 9110, section 14)."""
        size = path.stat().st_size
        part = self.wanted_range(size, headers.get("ETag", ""))
        if part is None:
            self.send_response(200)
            start, stop = 0, size
        elif part[0] >= size:
            return self.answer(416, headers={"Content-Range": f"bytes */{size}"})
        else:
            start, stop = part
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with path.open("rb") as stream:
                if isinstance(self.server, Server) and self.server.rate:
                    self._send_slowly(stream, start, stop, self.server.rate)
                elif stop == size:
                    self.connection.sendfile(stream, start)
                else:
                    stream.seek(start)
                    self.wfile.write(stream.read(stop - start))
        return None

    def _send_slowly(self, stream: BinaryIO, start: int, stop: int, rate: int) -> None:
        begun, at = time.monotonic(), start
        while at < stop:
            at += self.connection.sendfile(stream, at, min(rate // 50, stop - at))
            time.sleep(max(0.0, begun + (at - start) / rate - time.monotonic()))

    def wanted_range(self, size: int, etag: str) -> tuple[int, int] | None:
        """Return the first byte and the one after the last; None for the whole file."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if not match or (condition and condition != etag):
            return None
        stop = int(match[2]) + 1 if match[2] else size
        return int(match[1]), min(stop, size)

    def drain(self) -> bytes:
        """Read the request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

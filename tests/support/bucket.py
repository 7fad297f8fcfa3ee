"""A bucket on loopback: keeps what is put into it. As much of S3 as an upload needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Bucket:
    """What was stored, by path.

    Args:
        address: where it is reached.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.stored: dict[str, bytes] = {}

    def environment(self) -> dict[str, str]:
        """What the SDK reads."""
        return {
            "BUCKET_ENDPOINT_URL": self.address,
            "BUCKET_ACCESS_KEY_ID": "key",
            "BUCKET_SECRET_ACCESS_KEY": "not-a-secret",
        }


@contextmanager
def running() -> Iterator[Bucket]:
    """A bucket on a free port, until the block ends."""

    class Routes(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            if self.headers.get("Expect") == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            bucket.stored[self.path] = self._body()
            self.send_response(200)
            self.send_header("ETag", '"etag"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Content-Encoding", ""):
                return self.rfile.read(int(self.headers["Content-Length"]))
            # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
            whole = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # the checksum that follows
            return whole

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Routes)
    server.daemon_threads = True
    bucket = Bucket(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()

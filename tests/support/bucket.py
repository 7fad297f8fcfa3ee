"""Serve a bucket on loopback that keeps uploads: as much of S3 as an upload needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import serving


class Bucket(serving.Server):
    """A bucket; `stored` holds uploads by path."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    def environment(self) -> dict[str, str]:
        """Return the variables that the SDK reads."""
        return {
            "BUCKET_ENDPOINT_URL": self.url,
            "BUCKET_ACCESS_KEY_ID": "key",
            "BUCKET_SECRET_ACCESS_KEY": "not-a-secret",
        }


class _Handler(serving.Quiet):
    server: Bucket

    def do_PUT(self) -> None:  # noqa: N802 - http.server's own name
        self.server.stored[self.path] = self._body()
        self.answer(200, headers={"ETag": '"etag"'})

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Content-Encoding", ""):
            return self.drain()
        # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
        whole = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # the checksum that follows
        return whole


@contextmanager
def running() -> Iterator[Bucket]:
    """Serve a bucket on a free port until the block ends."""
    server = Bucket()
    with serving.running(server):
        yield server

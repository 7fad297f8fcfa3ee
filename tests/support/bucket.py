"""Serve a bucket on loopback that keeps uploads: as much of S3 as an upload needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import serving

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_REFUSAL = b"<Error><Code>InvalidAccessKeyId</Code><Message>unknown key</Message></Error>"


class Bucket(serving.Server):
    """A bucket; `stored` holds uploads by path, `types` their media types.

    Args:
        key: the only access id that may upload.
        broken: connections that end without an answer, before the first that does not.
    """

    def __init__(self, key: str = "key", broken: int = 0) -> None:
        self.key, self.broken = key, broken
        self.stored: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
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
        body = self._body()
        if self.server.broken:
            self.server.broken -= 1
            self.close_connection = True
            return
        if f"Credential={self.server.key}/" not in self.headers.get("Authorization", ""):
            self.answer(403, _REFUSAL, {"Content-Type": "application/xml"})
            return
        self.server.stored[self.path] = body
        self.server.types[self.path] = self.headers.get("Content-Type", "")
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
def running(broken: int = 0) -> Iterator[Bucket]:
    """Serve a bucket on a free port until the block ends; arguments as of `Bucket`."""
    server = Bucket(broken=broken)
    with serving.running(server):
        yield server

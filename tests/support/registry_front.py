"""Stand before a real registry, and answer some requests in its place as others would."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.serving import Quiet, Server, running


@dataclass(frozen=True)
class Refusal:
    """An answer in the registry's place.

    Args:
        request: regular expression of method and path.
        status: of the answer.
        code: of the OCI distribution specification; empty for a web page.
        message: what it says.
        times: how often; 0 for always.
    """

    request: str
    status: int
    code: str
    message: str
    times: int = 0


class _Handler(Quiet):
    server: Front

    def handle(self) -> None:
        """Answer TLS, which engines try first, as registries do: with HTTP."""
        if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        else:
            super().handle()

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        body = self._read()
        refusal = self.server.refusal
        if re.search(refusal.request, f"{self.command} {self.path}"):
            self.server.refused += 1
            if not refusal.times or self.server.refused <= refusal.times:
                error = {"errors": [{"code": refusal.code, "message": refusal.message}]}
                page = f"<html><head><title>{refusal.message}</title></head></html>"
                text = json.dumps(error) if refusal.code else page
                form = "application/json" if refusal.code else "text/html"
                return self.answer(refusal.status, text.encode(), {"Content-Type": form})
        backend = http.client.HTTPConnection(self.server.target, timeout=60)
        hop = ("transfer-encoding", "content-length", "connection")
        backend.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # Accept comes several times
            if name.lower() not in hop:
                backend.putheader(name, value)
        backend.putheader("Content-Length", str(len(body)))
        backend.endheaders(body)
        got = backend.getresponse()
        kept = {k: v for k, v in got.getheaders() if k.lower() not in hop}
        if length := got.getheader("Content-Length"):
            kept["Content-Length"] = length
        self.answer(got.status, got.read(), kept)
        backend.close()
        return None

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's own names

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.drain()
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


class Front(Server):
    """The server; `refused` counts the requests that the refusal is about."""

    def __init__(self, target: str, refusal: Refusal) -> None:
        self.target, self.refusal, self.refused = target, refusal, 0
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server_port}"


@contextmanager
def refusing(target: str, refusal: Refusal) -> Iterator[Front]:
    """Stand before the registry at `target` (host:port) until the block ends."""
    front = Front(target, refusal)
    with running(front):
        yield front

"""Serve a file with scripted faults: one `Behaviour` a request, the last one for the rest."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from tests.support.serving import Quiet, Server, running


@dataclass(frozen=True)
class Behaviour:
    """The answer to one request.

    Args:
        status: of the answer; other than 200 its body is `content`, by default none.
        headers: further ones.
        etag: empty for none.
        ranges: whether a Range is honoured.
        conditions: whether an If-Range is.
        stop_at: bytes of the body after which `how` happens; None for never.
        how: close the connection, reset it, stall, or go on a byte at a time.
        flip: whether the body's first byte is wrong.
        length: Content-Length to claim; None for the true one.
        chunked: no Content-Length, chunks instead.
        rate: bytes a second; 0 for no limit.
        content: what is served instead of the server's content.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    conditions: bool = True
    stop_at: int | None = None
    how: Literal["close", "reset", "stall", "crawl"] = "close"
    flip: bool = False
    length: int | None = None
    chunked: bool = False
    rate: int = 0
    content: bytes | None = None


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]


class _Handler(Quiet):
    server: FaultServer

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        self.server.asked.append(Asked(self.path, dict(self.headers.items())))
        act = self.server.next_behaviour()
        self.close_connection = True
        if act.status != 200:
            self.answer(act.status, act.content or b"", dict(act.headers))
            return
        content = self.server.pages.get(self.path, self.server.content)
        content = content if act.content is None else act.content
        condition = act.etag if act.conditions else self.headers.get("If-Range", "")
        part = self.wanted_range(len(content), condition) if act.ranges else None
        start, stop = part or (0, len(content))
        if part and start >= len(content):
            self.answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
            return
        body = content[start:stop]
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        if act.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body) if act.length is None else act.length))
        for name, value in {**({"ETag": act.etag} if act.etag else {}), **act.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(bytes([body[0] ^ 255]) + body[1:] if act.flip else body, act)

    def _send(self, body: bytes, act: Behaviour) -> None:
        whole = body if act.stop_at is None else body[: act.stop_at]
        step = max(1, act.rate // 50) if act.rate else 1 << 16
        for at in range(0, len(whole), step):
            self._write(whole[at : at + step], act)
            if act.rate:
                time.sleep(step / act.rate)
        if act.stop_at is None:
            if act.chunked:
                self.wfile.write(b"0\r\n\r\n")
        elif act.how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif act.how == "stall":
            self.server.over.wait()
        elif act.how == "crawl":
            for at in range(act.stop_at, len(body)):
                self._write(body[at : at + 1], act)
                if self.server.over.wait(0.02):
                    return

    def _write(self, piece: bytes, act: Behaviour) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if act.chunked else piece)


class FaultServer(Server):
    """The server; `asked` holds every request."""

    def __init__(self, content: bytes, script: Sequence[Behaviour], host: str) -> None:
        self.content, self.script = content, list(script) or [Behaviour()]
        self.pages: dict[str, bytes] = {}  # content of single paths
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)

    def next_behaviour(self) -> Behaviour:
        """Return the behaviour for the next request; the last one stays."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def misbehaving(
    content: bytes, *script: Behaviour, host: str = "127.0.0.1"
) -> Iterator[FaultServer]:
    """Serve `content` by the script until the block ends; without a script, correctly."""
    server = FaultServer(content, script, host)
    with running(server):
        try:
            yield server
        finally:
            server.over.set()

"""Serve as an HTTP proxy: tunnels by CONNECT; `asked` holds the targets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.serving import Quiet, Server, running


class _Handler(Quiet):
    server: Proxy

    def do_CONNECT(self) -> None:  # noqa: N802 - http.server's own name
        self.server.asked.append(self.path)
        self.close_connection = True
        if self.server.refusal:
            self.send_error(self.server.refusal)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as target:
            self.send_response(200, "Connection established")
            self.end_headers()
            back = threading.Thread(target=_relay, args=(target, self.connection), daemon=True)
            back.start()
            _relay(self.connection, target)
            back.join()


def _relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Proxy(Server):
    """The proxy; `refusal` is the status of its answers if it tunnels nothing."""

    def __init__(self, refusal: int = 0) -> None:
        self.asked: list[str] = []
        self.refusal = refusal
        super().__init__(("127.0.0.1", 0), _Handler)


@contextmanager
def proxying(proxy: Proxy) -> Iterator[Proxy]:
    """Run a proxy until the block ends."""
    with running(proxy):
        yield proxy

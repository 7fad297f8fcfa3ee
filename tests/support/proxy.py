"""Serve as a proxy, by CONNECT of HTTP or by SOCKS 5; `asked` holds the targets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from socketserver import StreamRequestHandler

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
            _join(self.connection, target)


class _SocksHandler(StreamRequestHandler):
    """Speak SOCKS 5 (RFC 1928, and RFC 1929 for a login), of which clients here use CONNECT."""

    server: Proxy

    def handle(self) -> None:
        read = self.rfile.read
        methods = read(read(2)[1])
        method = 2 if self.server.login else 0
        if method not in methods:
            self.wfile.write(b"\5\xff")
            return
        self.wfile.write(bytes((5, method)))
        if self.server.login:
            user, password = (read(read(count)[-1]) for count in (2, 1))
            is_right = b":".join((user, password)).decode() == self.server.login
            self.wfile.write(bytes((1, 0 if is_right else 1)))
            if not is_right:
                return
        kind = read(4)[3]
        if kind == 3:
            host = read(read(1)[0]).decode()
        else:
            host = str(ip_address(read(4 if kind == 1 else 16)))
        port = int.from_bytes(read(2), "big")
        self.server.asked.append(f"{host}:{port}")
        if self.server.refusal:
            self.wfile.write(bytes((5, self.server.refusal, 0, 1)) + bytes(6))
            return
        # Names end here: only a proxy that resolves them itself reaches these servers.
        with socket.create_connection(("127.0.0.1", port)) as target:
            self.wfile.write(b"\5\0\0\1" + bytes(6))
            _join(self.connection, target)


def _join(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_relay, args=(other, one), daemon=True)
    back.start()
    _relay(one, other)
    back.join()


def _relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Proxy(Server):
    """The proxy.

    Args:
        refusal: status of HTTP, or reply of SOCKS, where it tunnels nothing.
        login: `user:password` that a SOCKS proxy wants.
        socks: speak SOCKS 5.
    """

    def __init__(self, refusal: int = 0, *, socks: bool = False, login: str = "") -> None:
        self.asked: list[str] = []
        self.refusal, self.login = refusal, login
        super().__init__(("127.0.0.1", 0), _SocksHandler if socks else _Handler)


@contextmanager
def proxying(proxy: Proxy) -> Iterator[Proxy]:
    """Run a proxy until the block ends."""
    with running(proxy):
        yield proxy

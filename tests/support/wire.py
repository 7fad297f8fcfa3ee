"""Relay a TCP connection, and cut it when certain bytes pass."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Wire:
    """A TCP relay to `target` (host:port).

    Args:
        target: the server behind it.
        at: bytes from the client that cut the wire.
        after: how many more bytes of the client pass first.
        forever: whether new connections are cut too, until `repair`.
    """

    def __init__(self, target: str, at: bytes, *, after: int = 0, forever: bool = False) -> None:
        self._target, self._at, self._after, self._forever = target, at, after, forever
        self._closed = threading.Event()
        self._dead = threading.Event()
        self.broken = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def repair(self) -> None:
        """Let everything pass from now on."""
        self._forever = False
        self._dead.clear()

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._dead.is_set():
            client.close()
            return
        host, _, port = self._target.rpartition(":")
        with suppress(OSError), client, socket.create_connection((host, int(port))) as server:
            back = threading.Thread(target=self._back, args=(server, client), daemon=True)
            back.start()
            self._forth(client, server)
            # Both ways end together; a reader blocked in recv sees the shutdown.
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        seen, left = b"", -1
        while data := client.recv(1 << 16):
            if left < 0 and not self.broken.is_set():
                seen = (seen + data)[-(len(data) + len(self._at)) :]
                left = self._after if self._at in seen else -1
            if left >= 0:
                server.sendall(data[:left])
                left -= len(data)
                if left <= 0:
                    self._cut()
                    return
                continue
            server.sendall(data)

    def _cut(self) -> None:
        if self._forever:
            self._dead.set()
        self.broken.set()

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if self._dead.is_set():
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


@contextmanager
def wire(target: str, at: bytes, *, after: int = 0, forever: bool = False) -> Iterator[Wire]:
    """Open a `Wire` with these arguments until the block ends."""
    laid = Wire(target, at, after=after, forever=forever)
    try:
        yield laid
    finally:
        laid.close()

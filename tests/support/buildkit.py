"""Serve an engine's BuildKit over TCP, as a team's build machine does.

Every Docker engine has BuildKit inside, behind an HTTP address that a client has to leave by an
upgrade to gRPC (https://docs.docker.com/reference/api/engine/, `/grpc`). buildx's `remote` driver
sends gRPC from the first byte. This does the upgrade for each connection and copies bytes.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@contextmanager
def buildkit(engine: str) -> Iterator[str]:
    """Serve an engine's BuildKit until the block ends; its address.

    Args:
        engine: `unix:///path/of/its/socket`.
    """
    path = Path(engine.removeprefix("unix://"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, path), daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, engine: Path) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed by the end of the block
            return
        threading.Thread(target=_connect, args=(client, engine), daemon=True).start()


def _connect(client: socket.socket, engine: Path) -> None:
    with client, socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(str(engine))
        daemon.sendall(_UPGRADE)
        rest = _after_the_headers(daemon)
        client.sendall(rest)
        back = threading.Thread(target=_pass_on, args=(daemon, client), daemon=True)
        back.start()
        _pass_on(client, daemon)
        back.join()


def _after_the_headers(daemon: socket.socket) -> bytes:
    """Read the engine's answer; return the bytes after it, which are gRPC's."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = daemon.recv(65536)
        if not more:
            raise ConnectionError(f"the engine does not upgrade: {answer!r}")
        answer += more
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b" 101 " not in head.splitlines()[0]:
        raise ConnectionError(f"the engine does not upgrade: {head!r}")
    return rest


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Copy the bytes of one direction until it ends."""
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass  # the other side is gone
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # already closed

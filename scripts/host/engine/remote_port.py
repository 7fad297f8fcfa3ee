"""Reach the ports of containers where the engine is on another machine."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.host.engine.client import find_address

_TIMEOUT: Final = 30.0  # seconds until ssh has connected
_POLL: Final = 0.1


@contextmanager
def forwarded_port(port: int) -> Iterator[int]:
    """Forward a port of this machine's loopback to one of the engine's, by ssh.

    Args:
        port: of the engine's loopback.

    Yields:
        The port here: the same where it is free, and where the engine is not reached by ssh.

    Raises:
        UserError: ssh does not connect.
    """
    address = urlsplit(find_address())
    if address.scheme != "ssh":
        yield port
        return
    local = _choose_port(port)
    command = ["ssh", "-N", "-o", "ExitOnForwardFailure=yes"]
    command += ["-L", f"127.0.0.1:{local}:127.0.0.1:{port}"]
    command += ["-p", str(address.port)] if address.port else []
    user = f"{address.username}@" if address.username else ""
    with subprocess.Popen(
        [*command, "--", f"{user}{address.hostname}"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must not end it before the container is stopped
    ) as tunnel:
        try:
            _wait_for(tunnel, local, address.geturl())
            yield local
        finally:
            tunnel.terminate()


def _choose_port(wanted: int) -> int:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(tunnel: "subprocess.Popen[bytes]", port: int, location: str) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while tunnel.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), _TIMEOUT):
            return
        time.sleep(_POLL)
    raise UserError("ssh forwards no port", location=location, hint="look above")

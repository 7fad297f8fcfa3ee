"""Speaks to the WebUI's API on this machine."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from socket import socket

MOST: Final = 2_000_000_000
"""Bytes of an answer that are read. What is longer is none: cut off here, it is no JSON."""

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What the API answered.

    Args:
        status: HTTP status.
        body: bytes, usually JSON.
    """

    status: int
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever the WebUI sends
        """The body, parsed.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)

    def error(self) -> str:
        """The WebUI's own words for what went wrong, on one line."""
        try:
            told = self.json()
            words = [told.get("errors") or told.get("detail"), told.get("error")]
            text = ": ".join(str(word) for word in reversed(words) if word)
        except (ValueError, AttributeError):
            text = ""
        text = text or self.body[:300].decode("utf-8", "replace") or "no reason given"
        return f"{self.status} {' '.join(text.split())}"


@dataclass(frozen=True)
class Api:
    """The API at a port of this machine.

    Args:
        host: where the WebUI was told to serve.
        port: its port.
        auth: user:password, of several the first counts; empty without.
    """

    host: str
    port: int
    auth: str = ""

    def call(self, method: str, path: str, body: object = None, *, timeout: float = 10.0) -> Answer:
        """One request on a connection of its own.

        Args:
            method: GET or POST.
            path: such as /sdapi/v1/txt2img.
            body: sent as JSON, or nothing when None.
            timeout: seconds until the whole answer must be there.

        Raises:
            OSError: nothing answers, or not in time.
            http.client.HTTPException: what answers does not speak HTTP.
        """
        import http.client  # a tenth of a second that the start of the server need not wait for

        # A wildcard address serves loopback too; any other is the only one served.
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104
        headers = {"Content-Type": "application/json"}
        if self.auth:
            first = self.auth.partition(",")[0].encode()
            headers["Authorization"] = f"Basic {base64.b64encode(first).decode()}"
        deadline = time.monotonic() + timeout
        connection = http.client.HTTPConnection(host, self.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.connect()
            line = connection.sock  # the response takes it over
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return Answer(response.status, _body(response, line, deadline))
        finally:
            connection.close()


def _body(response: HTTPResponse, line: socket, deadline: float) -> bytes:
    """All of an answer, from a server that may send byte after byte without an end.

    Raises:
        OSError: it was not whole by the deadline, or the connection broke.
    """
    parts: list[bytes] = []
    left = MOST
    while left > 0 and not response.isclosed():  # Python 3.13 closes it with the last byte
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the answer does not end")
        line.settimeout(seconds)
        part = response.read1(min(left, _CHUNK))
        if not part:
            if response.length:
                raise ConnectionError(f"{response.length} bytes of the answer are missing")
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)

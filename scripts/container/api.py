"""Speaks to the WebUI's API on this machine."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any


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
            timeout: seconds that the server may be silent.

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
        connection = http.client.HTTPConnection(host, self.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

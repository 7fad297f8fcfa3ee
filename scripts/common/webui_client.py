"""Send requests to the WebUI's API: from the worker on the same machine, from smoke tests anywhere.

`http.client` instead of `requests`: the whole answer must come within a deadline, however slowly
its bytes arrive, and an import of 0.1 s would delay the worker's start.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from scripts.common.active_time import active_time, shut_at

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

MAX_BODY: Final = 2_000_000_000
"""Bytes of a body that are read. A longer one is cut off here and is no valid JSON."""

PROGRESS: Final = "/sdapi/v1/progress?skip_current_image=true"
"""Path that the WebUI answers at once, even while it loads or draws."""

OPTIONS: Final = "/sdapi/v1/options"

_CHUNK: Final = 1 << 20
_MAX_ERROR: Final = 1000
"""Characters of an error; torch names every tensor of a checkpoint that does not fit."""


@dataclass(frozen=True)
class Response:
    """An HTTP response of the WebUI.

    Args:
        status: HTTP status.
        body: bytes, usually JSON.
    """

    status: int
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Parse the body.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)

    def error(self) -> str:
        """Return status and error message on one line, as the WebUI reports them."""
        try:
            fields = self.json()
            parts = [fields.get("error"), fields.get("errors") or fields.get("detail")]
            text = ": ".join(str(part) for part in parts if part)
        except (ValueError, AttributeError):
            text = ""
        text = text or self.body[:300].decode("utf-8", "replace") or "no reason given"
        line = f"{self.status} {' '.join(text.split())}"
        return line if len(line) <= _MAX_ERROR else f"{line[:_MAX_ERROR]}…"


@dataclass(frozen=True)
class WebuiClient:
    """Client of one WebUI; every request opens its own connection.

    Args:
        url: `http://host:port` or `https://host`.
        auth: `user:password`; of several, separated by commas, the first is used.
        use_proxies: follow HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
    """

    url: str
    auth: str = ""
    use_proxies: bool = False

    @classmethod
    def local(cls, host: str, port: int, auth: str = "") -> WebuiClient:
        """Return a client for a WebUI on this machine that listens on `host`."""
        # A wildcard address serves loopback too; any other is the only one served.
        reachable = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104
        return cls(f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}", auth)

    def request(
        self, method: str, path: str, body: object = None, *, timeout: float = 10.0
    ) -> Response:
        """Send one request and read the whole response.

        Args:
            method: GET or POST.
            path: such as `/sdapi/v1/txt2img`.
            body: sent as JSON unless None.
            timeout: seconds until the whole response must be there.

        Raises:
            OSError: no response, not in time, or none that is HTTP (ConnectionResetError).
            ValueError: the URL is not of http or https.
        """
        import http.client  # 0.1 s that the start of the worker need not wait for

        # Some proxies refuse requests without a name, or with the name of a Python library.
        headers = {"Content-Type": "application/json", "User-Agent": "a1111-worker"}
        if self.auth:
            headers["Authorization"] = _basic(self.auth.partition(",")[0])
        deadline = active_time() + timeout
        connection, target = self._connection(path, headers, timeout)
        try:
            connection.connect()
            data = None if body is None else json.dumps(body)
            with shut_at(connection.sock, deadline) as alarm:
                try:
                    connection.request(method, target, data, headers)
                    response = connection.getresponse()
                    answer = Response(response.status, _read_body(response))
                except (OSError, http.client.HTTPException):
                    if alarm.is_due:
                        raise TimeoutError("no whole answer in time") from None
                    raise
            if alarm.is_due:  # a body without a length ends with the connection
                raise TimeoutError("the answer does not end")
            return answer
        except http.client.HTTPException as error:
            raise ConnectionResetError(str(error) or repr(error)) from error
        finally:
            connection.close()

    def read(self, path: str, *, method: str = "GET", timeout: float = 10.0) -> Any:  # noqa: ANN401 - any JSON
        """Return the parsed answer of a route that takes no body.

        Args:
            path: such as `/sdapi/v1/options`.
            method: GET or POST.
            timeout: seconds until the whole answer must be there.

        Raises:
            OSError: no answer, or not in time.
            ValueError: it is an error, or no JSON.
        """
        response = self.request(method, path, timeout=timeout)
        if response.status != 200:
            raise ValueError(response.error())
        return response.json()

    def _connection(
        self, path: str, headers: dict[str, str], timeout: float
    ) -> tuple[HTTPConnection, str]:
        """Return a connection to the WebUI or its proxy, and the request's target on it."""
        import http.client

        address = urlsplit(self.url)
        host, target = address.hostname, address.path.rstrip("/") + path
        if not host or address.scheme not in ("http", "https"):
            raise ValueError(f"{self.url} is no http or https address")
        secure = address.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        proxy = _find_proxy(address) if self.use_proxies else None
        if not proxy:
            return kind(host, address.port, timeout=timeout), target
        connection = kind(str(proxy.hostname), proxy.port, timeout=timeout)
        login = (
            f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else ""
        )
        credentials = {"Proxy-Authorization": _basic(login)} if login else {}
        if secure:
            connection.set_tunnel(host, address.port, credentials)
            return connection, target
        headers.update(credentials)
        return connection, f"http://{address.netloc}{target}"


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def _find_proxy(address: SplitResult) -> SplitResult | None:
    """Return the proxy that the environment names for an address."""
    from urllib.request import getproxies, proxy_bypass

    proxy = getproxies().get(address.scheme)
    if not proxy or proxy_bypass(address.netloc.rpartition("@")[2]):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _read_body(response: HTTPResponse) -> bytes:
    """Read a whole body.

    Raises:
        OSError: the connection broke.
    """
    parts: list[bytes] = []
    left = MAX_BODY
    while left > 0 and not response.isclosed():  # Python 3.13 closes it with the last byte
        part = response.read1(min(left, _CHUNK))
        if not part:
            if response.length:
                raise ConnectionError(f"{response.length} bytes of the answer are missing")
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)

"""Requests of the WebUI client: addresses, proxies and error messages."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scripts.common.webui_client import Response, WebuiClient

WEBUI = "webui.invalid:3000"  # reached through the proxy only


class Proxy(BaseHTTPRequestHandler):
    """Answers every request with its request line and headers, as a proxy sees them."""

    def do_GET(self) -> None:
        body = json.dumps({"line": self.requestline, **self.headers}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.send_error(407, f"CONNECT {self.path} {self.headers['Proxy-Authorization']}")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a proxy that the environment names for http and https."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{address}")
    monkeypatch.setenv("https_proxy", f"http://me:p%40ss@{address}")
    yield address
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("proxy")
def test_http_requests_name_the_host_to_a_proxy() -> None:
    client = WebuiClient(f"http://{WEBUI}/base/", "user:word,second:one", use_proxies=True)
    seen = client.request("GET", "/path").json()
    assert seen["line"] == f"GET http://{WEBUI}/base/path HTTP/1.1"
    assert seen["Host"] == WEBUI
    assert seen["Authorization"] == "Basic dXNlcjp3b3Jk"
    assert seen["Proxy-Authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.usefixtures("proxy")
def test_https_requests_go_through_a_tunnel() -> None:
    client = WebuiClient(f"https://{WEBUI}", use_proxies=True)
    with pytest.raises(OSError, match=f"407 CONNECT {WEBUI} Basic bWU6cEBzcw=="):
        client.request("GET", "/path")


def test_the_worker_and_excluded_hosts_use_no_proxy(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _, port = proxy.partition(":")
    local = WebuiClient.local("0.0.0.0", int(port))
    assert local.request("GET", "/x").json()["line"] == "GET /x HTTP/1.1"
    monkeypatch.setenv("no_proxy", host)
    excluded = WebuiClient(f"http://{proxy}", use_proxies=True)
    assert excluded.request("GET", "/x").json()["line"] == "GET /x HTTP/1.1"


@pytest.mark.parametrize("url", ["", "webui:3000", "ftp://webui", "http:///x"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no http or https address"):
        WebuiClient(url).request("GET", "/")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": "KeyError", "errors": "a\\nb", "detail": ""}', "500 KeyError: a b"),
        (b'{"detail": "Not Found"}', "500 Not Found"),
        (b"<html>", "500 <html>"),
        (b"[]", "500 []"),
        (b"", "500 no reason given"),
    ],
)
def test_an_error_is_one_line_in_the_webuis_words(body: bytes, expected: str) -> None:
    assert Response(500, body).error() == expected


def test_a_long_error_is_cut() -> None:
    body = json.dumps({"error": "RuntimeError", "errors": "size mismatch " * 1000}).encode()
    text = Response(500, body).error()
    assert text.startswith("500 RuntimeError: size mismatch")
    assert len(text) == 1001


def test_an_answer_that_is_no_http_is_a_broken_connection() -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"no status line\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        client = WebuiClient.local("127.0.0.1", listener.getsockname()[1])
        with pytest.raises(ConnectionResetError, match="no status line"):
            client.request("GET", "/path", timeout=5)


def test_reading_an_error_names_it(proxy: str) -> None:
    client = WebuiClient(f"http://{proxy}")
    assert client.read("/path")["line"] == "GET /path HTTP/1.1"
    with pytest.raises(ValueError, match="501 "):
        client.read("/path", method="POST")

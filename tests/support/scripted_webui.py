"""A WebUI for tests of jobs: each address answers as the test wants."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scripts.common.webui_client import WebuiClient
from tests.support.releases import recorded
from tests.support.webui import png

RELEASE = "v1.10.1"
IMAGE = base64.b64encode(png(64, 64, 1)).decode()
DRAWN = {"images": [IMAGE], "parameters": {}, "info": "{}"}
IDLE = {"progress": 0.0, "eta_relative": 0.0, "state": {"job_count": 0}}

Route = Callable[[Any], Any]


def _answer(found: Any, _: Any) -> Any:
    return found


class WebUI:
    """Answers each address with what a function returns; bytes are sent as they are."""

    def __init__(self, release: str = RELEASE) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.missing = 0  # bytes that an answer announces and does not have
        self.routes: dict[str, Route] = {
            "/sdapi/v1/progress": lambda _: IDLE,
            **{path: partial(_answer, found) for path, found in recorded(release).items()},
        }
        webui = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.reply(json.loads(body) if body else None)

            def reply(self, body: Any) -> None:
                path = self.path.partition("?")[0]
                if path not in recorded(RELEASE):
                    webui.requests.append((path, body))
                route = webui.routes.get(path)
                answer = route(body) if route else (404, {"detail": "Not Found"})
                if answer is None:  # as a process that dies: no answer at all
                    self.close_connection = True
                    return
                if isinstance(answer, Iterator):
                    self.send_until_closed(answer)
                    return
                status, content = answer if isinstance(answer, tuple) else (200, answer)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data) + webui.missing))
                self.end_headers()
                with contextlib.suppress(OSError):  # the client may have given up
                    self.wfile.write(data)

            def send_until_closed(self, parts: Iterator[bytes]) -> None:
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    for part in parts:
                        self.wfile.write(part)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.client = WebuiClient.local("127.0.0.1", self.server.server_port)

    def on(self, name: str, answer: Any) -> None:
        """Answer one part of the API: with a value, or with a function of the request."""
        self.routes[f"/sdapi/v1/{name}"] = answer if callable(answer) else lambda _: answer

    def paths(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _ in self.requests]


@contextmanager
def running(release: str = RELEASE) -> Iterator[WebUI]:
    """Serve as a release does until the block ends."""
    webui = WebUI(release)
    try:
        yield webui
    finally:
        webui.server.shutdown()
        webui.server.server_close()

"""RunPod's side of a serverless worker: hands out jobs and takes results, as its SDK expects it.

The addresses and the polling are those that the SDK reads from RUNPOD_WEBHOOK_*.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from typing import Any

POLL = 0.5  # seconds that a request for a job is held; RunPod holds it longer


class Platform:
    """A queue of jobs, and their results.

    Args:
        port: where it listens on loopback.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.progress: dict[str, list[Any]] = defaultdict(list)
        self._jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._results: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._count = 0
        self.times: dict[str, dict[str, float]] = defaultdict(dict)
        self.cancelled: set[str] = set()

    def environment(self) -> dict[str, str]:
        """Variables that RunPod sets in a serverless worker."""
        base = f"http://127.0.0.1:{self.port}"
        return {
            "RUNPOD_ENDPOINT_ID": "endpoint",
            "RUNPOD_POD_ID": "pod",
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
        }

    def send(self, given: Any, name: str = "", **beside: Any) -> str:
        """Queue a job with this `input`, and fields beside it; return its id."""
        self._count += 1
        name = name or f"job-{self._count}"
        self.times[name]["sent"] = time.monotonic()
        # RunPod leaves an empty input out (runpod-plugins-official, golden-paths/15, 2026-08).
        job = {"id": name, "input": given} if given != {} else {"id": name}
        self._jobs.put({**job, **beside})
        return name

    def result(self, name: str, timeout: float = 60.0) -> Any:
        """Wait for a job's result."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._results, timeout):
                raise AssertionError(f"no result for {name} within {timeout:g} s")
            return self._results[name]

    def find(self, name: str) -> Any:
        """Return a job's result; None while there is none."""
        return self._results.get(name)

    def do(self, given: Any, timeout: float = 60.0) -> Any:
        """Queue a job and wait for its result."""
        return self.result(self.send(given), timeout)

    def take(self) -> dict[str, Any] | None:
        """Return the next job, None after POLL seconds without one or for a cancelled one."""
        try:
            job = self._jobs.get(timeout=POLL)
        except Empty:
            return None
        self.times[job["id"]]["taken"] = time.monotonic()
        return None if job["id"] in self.cancelled else job

    def store(self, name: str, sent: dict[str, Any]) -> None:
        """Keep a result or a report of progress."""
        with self._changed:
            if sent.get("status") == "IN_PROGRESS":
                self.progress[name].append(sent["output"])
            else:
                self.times[name]["done"] = time.monotonic()
                self._results[name] = sent
            self._changed.notify_all()


@contextmanager
def running(port: int = 0) -> Iterator[Platform]:
    """A platform on a port, or on a free one, until the block ends."""

    class Routes(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            job = platform.take() if self.path.startswith("/job-take/") else None
            self._answer(200 if job else 204, job)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            platform.store(self.path.split("?")[0].split("/")[-1], json.loads(body))
            self._answer(200, {})

        def _answer(self, status: int, body: object) -> None:
            data = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Print nothing: a killed worker leaves its connections."""

    server = Server(("127.0.0.1", port), Routes)
    server.daemon_threads = True
    platform = Platform(server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield platform
    finally:
        server.shutdown()
        server.server_close()

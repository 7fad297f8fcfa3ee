"""Serve the WebUI's API on loopback, and make a job of RunPod's queue of each request.

Clients and tests that were written for A1111 run through a serverless worker this way, unchanged:

    python -m tests.support.job_adapter [--port 7860] [--queue-port 7861]

prints the variables to start the worker with, and serves until it is interrupted. Jobs run one
after the other, as on any worker: an `interrupt` comes after the job that it was meant for.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.support import runpod
from tests.support.serving import Quiet, Server, running

ADDED = ("downloads", "parsed_info", "seeds", "warnings")
"""Keys of the worker in a job's output, which A1111's own answers do not have."""

STATUSES = {"input-invalid": 422, "name-unknown": 404, "job-timeout": 504}
"""HTTP statuses for errors of the worker, by their code; 500 for any other."""

TIMEOUT = 1500.0  # seconds that a job may wait and draw


def make_input(method: str, path: str, body: bytes) -> dict[str, Any]:
    """Return the job's input for an HTTP request.

    Raises:
        ValueError: the body is not JSON.
    """
    given: dict[str, Any] = {"api": {"method": method, "endpoint": path}}
    return {**given, "payload": json.loads(body)} if body else given


def make_response(result: dict[str, Any]) -> tuple[int, Any]:
    """Return HTTP status and body, in A1111's shapes, for a job's result.

    Errors have the keys of `handle_exception` in `modules/api/api.py`.
    """
    if "error" in result:
        text = str(result["error"])
        code = re.search(r"\[([a-z-]+)\]$", text)  # a hint may hold "features: [upscale]"
        by_webui = re.match(r"(?:input\.\S+: )?([45]\d\d) ", text)
        status = int(by_webui[1]) if by_webui else STATUSES.get(code[1] if code else "", 500)
        name = code[1] if code else "job-failed"
        return status, {"error": name, "detail": "", "body": "", "errors": text}
    output = result.get("output", {})  # the SDK leaves an empty one out
    if "answer" in output:  # a list or null, which the handler has wrapped
        return 200, output["answer"]
    return 200, {name: value for name, value in output.items() if name not in ADDED}


class JobAdapter(Server):
    """The adapter's server; `requests` holds each request's method, path and status.

    Args:
        platform: takes the jobs.
        port: to listen on; 0 for a free one.
    """

    def __init__(self, platform: runpod.Platform, port: int = 0) -> None:
        self.platform = platform
        self.requests: list[tuple[str, str, int]] = []
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(Quiet):
    server: JobAdapter

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        self._run()

    def do_POST(self) -> None:  # noqa: N802 - http.server's own name
        self._run()

    def _run(self) -> None:
        try:
            job = make_input(self.command, self.path, self.drain())
        except ValueError as error:
            return self._send(422, {"detail": str(error)})
        return self._send(*make_response(self.server.platform.do(job, TIMEOUT)))

    def _send(self, status: int, content: Any) -> None:
        self.server.requests.append((self.command, self.path, status))
        body = json.dumps(content).encode()
        self.answer(status, body, {"Content-Type": "application/json"})


@contextmanager
def adapting(platform: runpod.Platform, port: int = 0) -> Iterator[JobAdapter]:
    """Serve the WebUI's API with jobs of a platform until the block ends."""
    server = JobAdapter(platform, port)
    with running(server):
        yield server


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--queue-port", type=int, default=7861)
    options = parser.parse_args()
    with runpod.running(options.queue_port) as platform, adapting(platform, options.port) as server:
        for name, value in platform.environment().items():
            print(f"{name}={value}")
        print(f"serving on {server.url}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()

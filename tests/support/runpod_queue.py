"""RunPod's side of a queue endpoint for its customers, above the jobs that its workers take.

Operations and fields: https://docs.runpod.io/serverless/endpoints/operation-reference
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.runpod import Platform
from tests.support.runpod_rest import KEY
from tests.support.serving import Quiet, Server, running

ENDPOINT = "ep1"
WORKER = "worker1"


def describe_job(platform: Platform, name: str) -> dict[str, Any]:
    """Return a job as `/status` shows it."""
    times, result = platform.times[name], platform.find(name)
    job: dict[str, Any] = {"id": name, "status": "IN_PROGRESS" if "taken" in times else "IN_QUEUE"}
    if "taken" in times:
        job["delayTime"] = round((times["taken"] - times["sent"]) * 1000)
        job["workerId"] = WORKER
    if name in platform.cancelled:
        return {"id": name, "status": "CANCELLED"}
    if result is not None:
        job["executionTime"] = round((times["done"] - times["taken"]) * 1000)
        failed = "error" in result
        job["status"] = "FAILED" if failed else "COMPLETED"
        job |= {name: result[name] for name in ("output", "error") if name in result}
    return job


def answer(platform: Platform, method: str, path: str, body: Any) -> tuple[int, Any]:
    """Answer one request."""
    address = urlsplit(path)
    found = re.fullmatch(
        rf"/v2/{ENDPOINT}/(run|runsync|status|cancel|health)(?:/(.+))?", address.path
    )
    if not found:
        return 404, {"title": "Not Found", "status": 404, "detail": "endpoint not found"}
    operation, name = found[1], found[2] or ""
    if operation == "health":
        workers = {"idle": 0, "initializing": 0, "ready": 0, "running": 0, "throttled": 0}
        return 200, {"jobs": {}, "workers": workers}
    if operation in ("run", "runsync"):
        if method != "POST" or not (body or {}).get("input"):
            return 400, {"error": "input is missing"}
        name = platform.send(body["input"])
        if operation == "runsync":
            wait = int(parse_qs(address.query).get("wait", ["90000"])[0]) / 1000
            with suppress(AssertionError):
                platform.result(name, wait)
        return 200, describe_job(platform, name)
    if name not in platform.times:
        return 404, {"error": "job not found"}
    if operation == "cancel" and platform.find(name) is None:
        platform.cancelled.add(name)
        time.sleep(0.01)
    return 200, describe_job(platform, name)


@contextmanager
def serving(platform: Platform, failures: Iterable[int] = ()) -> Iterator[str]:
    """Serve the queue of a platform until the block ends; yield the address, with `/v2`.

    Args:
        platform: hands out the jobs.
        failures: statuses that the first questions for a job's status are answered with.
    """
    statuses = iter(failures)

    class Handler(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - http.server's own name
            self.reply(None)

        def do_POST(self) -> None:  # noqa: N802 - http.server's own name
            data = self.drain()
            self.reply(json.loads(data) if data else None)

        def reply(self, body: Any) -> None:
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                status, content = 401, {"error": "unauthorized"}
            elif "/status/" in self.path and (failure := next(statuses, 0)):
                status, content = failure, {"error": "try again"}
            else:
                status, content = answer(platform, self.command, self.path, body)
            headers = {"Content-Type": "application/json"}
            self.answer(status, json.dumps(content).encode(), headers)

    with running(Server(("127.0.0.1", 0), Handler)) as server:
        yield f"{server.url}/v2"

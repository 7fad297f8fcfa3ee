"""RunPod's REST API v2 for serverless endpoints, as far as `invoke deploy` uses it.

Paths, fields and rules are written by hand after RunPod's published document
(https://api.runpod.io/v2/openapi.json, version 2.0.0, as in github.com/runpod/docs of 2026-08-20),
and the pages of lists as RunPod's SDK 2.0.0rc2 reads them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema

from tests.support.serving import Quiet, Server, running

KEY = "rpa_secret-of-the-tests"
_TEXTS = {"type": "array", "items": {"type": "string"}}
_VERSION = r"^\d+\.\d+$"


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return the schema of an object that takes no other fields: they are answered with 422."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_GPU = {
    "pools": {**_TEXTS, "minItems": 1},
    "excludedTypes": {**_TEXTS, "uniqueItems": True},
    "count": {"type": "integer", "minimum": 1},
    "allowedCudaVersions": {"type": "array", "items": {"type": "string", "pattern": _VERSION}},
}
_SCALING = {
    "oneOf": [
        _closed(
            {"type": {"const": "QUEUE_DELAY"}, "queueDelay": {"type": "number", "minimum": 0.5}},
            *("type", "queueDelay"),
        ),
        _closed(
            {"type": {"const": "REQUEST_COUNT"}, "requestCount": {"type": "integer", "minimum": 1}},
            *("type", "requestCount"),
        ),
    ]
}
_FIELDS: dict[str, Any] = {
    "name": {"type": "string", "minLength": 1},
    "image": {"type": "string"},
    "args": {"type": "string"},
    "disk": {"type": "integer", "minimum": 1},
    "ports": _TEXTS,
    "env": {"type": "object", "additionalProperties": {"type": "string"}},
    "registry": {"type": ["string", "null"]},
    "scaling": _SCALING,
    "dataCenterIds": _TEXTS,
    "networkVolumes": _TEXTS,
    "timeout": {"type": "integer"},
    "flashboot": {"enum": ["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"]},
    "templateId": {"type": "string", "minLength": 1},
    "workers": _closed(
        {
            "min": {"type": "integer", "minimum": 0},
            "max": {"type": "integer", "minimum": 0},
            "idleTimeout": {"type": "integer", "minimum": 1, "maximum": 3600},
        }
    ),
}
CREATE = _closed(
    {
        **_FIELDS,
        "type": {"enum": ["QUEUE", "LOAD_BALANCER"]},
        "gpu": _closed(
            {**_GPU, "minCudaVersion": {"type": "string", "pattern": _VERSION}}, "pools"
        ),
        "cpu": {"type": "array", "minItems": 1},
    },
    *("name", "type", "scaling", "image"),
)
UPDATE = _closed(
    {
        **_FIELDS,
        "gpu": {
            **_closed({**_GPU, "minCudaVersion": {"type": "string", "pattern": f"^$|{_VERSION}"}}),
            "dependentRequired": {"excludedTypes": ["pools"]},
        },
        "cpu": {"type": "array", "minItems": 1},
    }
)
DEFAULTS: dict[str, Any] = {
    "args": "",
    "disk": 20,
    "ports": [],
    "env": {},
    "registry": None,
    "dataCenterIds": [],
    "networkVolumes": [],
    "timeout": 300000,
    "flashboot": "OFF",
}
CARDS = (
    ("NVIDIA GeForce RTX 4090", "ADA_24", 1.1),
    ("NVIDIA RTX A5000", "AMPERE_24", 0.69),
    ("NVIDIA L4", "AMPERE_24", 0.69),
    ("NVIDIA A40", "AMPERE_48", 1.22),
    ("NVIDIA L40", "ADA_48_PRO", 1.9),
    ("NVIDIA L40S", "ADA_48_PRO", 1.9),
    ("NVIDIA GeForce RTX 5090", "ADA_32_PRO", 1.58),
    ("NVIDIA B300", None, None),
)
"""Type, pool and price for a GPU and hour of some cards."""


class Problem(Exception):  # noqa: N818 - an object of RFC 9457
    """An error to answer with."""

    def __init__(self, status: int, detail: str, *errors: str) -> None:
        self.status = status
        self.body = {"title": "Error", "status": status, "detail": detail}
        if errors:
            self.body["errors"] = list(errors)


class Account:
    """Endpoints of an account, by id, and the workers of each.

    `answers` holds what the next requests get instead; each answer takes `delay` seconds after the
    request was done; a list has pages of `page` rows.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.page = 100
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.workers: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.answers: list[tuple[int, dict[str, str], Any]] = []

    def delete_all(self) -> None:
        """Delete the endpoints, as in the console."""
        self.endpoints.clear()

    def handle(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Answer one request.

        Raises:
            Problem: it is refused.
        """
        path, query = urlsplit(path).path, parse_qs(urlsplit(path).query)
        if (method, path) == ("GET", "/v2/catalog/gpus"):
            return 200, self.show_page("gpus", [_card(*row) for row in CARDS], query)
        if path == "/v2/serverless":
            if method == "GET":
                return 200, self.show_page("endpoints", list(self.endpoints.values()), query)
            if method == "POST":
                return 201, self.create(body)
        if found := re.fullmatch(r"/v2/serverless/(\w+)(/workers|/releases)?", path):
            endpoint = self.endpoints.get(found[1])
            if endpoint is None:
                raise Problem(404, "endpoint not found")
            if method == "GET":
                return 200, self.show(endpoint, found[2])
            if method == "PATCH" and not found[2]:
                return 200, self.update(endpoint, body)
        raise Problem(405 if path.startswith("/v2/") else 404, f"{method} {path}")

    def show_page(
        self, name: str, rows: list[dict[str, Any]], query: dict[str, list[str]]
    ) -> dict[str, Any]:
        """Return a page of a list, and where the next one begins."""
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.page
        more = {"hasNextPage": end < len(rows), "nextCursor": str(end) if end < len(rows) else None}
        return {name: rows[start:end], "pagination": more}

    def show(self, endpoint: dict[str, Any], part: str | None) -> dict[str, Any]:
        """Return an endpoint, its workers or its releases."""
        if not part:
            return endpoint
        if part == "/releases":
            counts = {"workersOnLatest": len(self.workers), "workersTotal": len(self.workers)}
            rollout = {"inProgress": False, "percentOnLatest": 100, **counts}
            return {"rollout": rollout, "releases": []}
        states = ("running", "idle", "initializing", "throttled", "unhealthy")
        found = [each["status"].lower() for each in self.workers]
        summary = {"total": len(found), **{state: found.count(state) for state in states}}
        return {"workers": self.workers, "summary": summary}

    def create(self, body: Any) -> dict[str, Any]:
        """Create an endpoint."""
        _validate(body, CREATE)
        if ("gpu" in body) == ("cpu" in body):
            raise Problem(400, "exactly one of gpu and cpu is required")
        name = f"ep{len(self.endpoints) + 1}"
        shown = {**DEFAULTS, **body}
        shown["workers"] = {"min": 0, "max": 3, "idleTimeout": 10, **body.get("workers", {})}
        shown["gpu"] = _select({"count": 1, "excludedTypes": []}, body["gpu"])
        _check_scaling(shown)
        urls = {
            each: f"https://api.runpod.ai/v2/{name}/{each.lower()}" for each in ("run", "runSync")
        }
        self.endpoints[name] = {"id": name, **shown, "requestUrls": urls, "createdAt": "2026-11-28"}
        return self.endpoints[name]

    def update(self, endpoint: dict[str, Any], body: Any) -> dict[str, Any]:
        """Change the fields that were sent; `env` is replaced as a whole."""
        _validate(body, UPDATE)
        if "cpu" in body:
            raise Problem(400, "compute family cannot be changed")
        changed = {**endpoint, **body}
        if "gpu" in body:
            changed["gpu"] = _select(endpoint["gpu"], body["gpu"])
        changed["workers"] = {**endpoint["workers"], **body.get("workers", {})}
        _check_scaling(changed)
        endpoint.update(changed)
        return endpoint


def _validate(body: Any, schema: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    if errors := [error.message for error in validator.iter_errors(body)]:
        raise Problem(422, "request validation failed", *errors)


def _select(before: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """Return the selection of GPUs after a request."""
    gpu = {**before, **sent}
    if "pools" in sent and "excludedTypes" not in sent:
        gpu["excludedTypes"] = []
    known = {pool for _, pool, _ in CARDS if pool}
    if unknown := set(gpu["pools"]) - known:
        raise Problem(400, f"unknown gpu pool: {', '.join(sorted(unknown))}")
    types = {card for card, pool, _ in CARDS if pool in gpu["pools"]}
    if strange := set(gpu["excludedTypes"]) - types:
        raise Problem(400, f"not in the pools: {', '.join(sorted(strange))}")
    if gpu.get("allowedCudaVersions") and gpu.get("minCudaVersion"):
        raise Problem(400, "allowedCudaVersions and minCudaVersion exclude each other")
    return {"allowedCudaVersions": [], "minCudaVersion": None, **gpu}


def _check_scaling(endpoint: dict[str, Any]) -> None:
    counts = endpoint["scaling"]["type"] == "REQUEST_COUNT"
    if endpoint["type"] == "LOAD_BALANCER" and not counts:
        raise Problem(422, "a load balancer scales on REQUEST_COUNT")
    if endpoint["type"] == "QUEUE" and counts and "idleTimeout" in endpoint["workers"]:
        raise Problem(422, "idleTimeout does not apply to REQUEST_COUNT")


def _card(name: str, pool: str | None, price: float | None) -> dict[str, Any]:
    prices = {"secure": 0.4, "community": 0.3, **({"serverless": price} if price else {})}
    return {"id": name, "name": name, "pool": pool, "manufacturer": "NVIDIA", "price": prices}


@contextmanager
def serving(account: Account) -> Iterator[str]:
    """Serve an account until the block ends; yield the address."""

    class Handler(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - http.server's own name
            self.reply(None)

        def do_POST(self) -> None:  # noqa: N802 - http.server's own name
            self.reply(json.loads(self.drain()))

        def do_PATCH(self) -> None:  # noqa: N802 - http.server's own name
            self.reply(json.loads(self.drain()))

        def reply(self, body: Any) -> None:
            account.requests.append((self.command, self.path, body))
            headers = {"Content-Type": "application/json"}
            if account.answers:
                status, more, content = account.answers.pop(0)
                return self.answer(status, json.dumps(content).encode(), {**headers, **more})
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                status, content = 401, Problem(401, "invalid API key").body
            else:
                try:
                    status, content = account.handle(self.command, self.path, body)
                except Problem as problem:
                    status, content = problem.status, problem.body
            time.sleep(account.delay)
            return self.answer(status, json.dumps(content).encode(), headers)

    with running(Server(("127.0.0.1", 0), Handler)) as server:
        yield server.url

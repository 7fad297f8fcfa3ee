"""Serve A1111's own API to a load-balancing endpoint, with the checks that jobs pass.

RunPod sends HTTP requests to PORT of a worker as soon as `/ping` on PORT_HEALTH answers 200; 204
means that it is still starting (https://docs.runpod.io/serverless/load-balancing/overview).
Requests that change or draw something run one after the other, as in the WebUI.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError
from scripts.common.units import size
from scripts.container.log import log
from scripts.container.serverless.answer.output_settings import OutputSettings
from scripts.container.serverless.answer.webui_errors import PoisonedError, WebuiError
from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.job_counter import JobCounter
from scripts.container.serverless.request.job_input import JobInput
from scripts.container.serverless.request.job_routes import find_route
from scripts.container.serverless.webui_exchange import ask_webui
from scripts.container.settings import Settings
from scripts.container.status.state import read_state

HEALTH: Final = "/ping"
WARNINGS_HEADER: Final = "X-Worker-Warnings"
"""Header of an answer that holds its warnings, as a JSON list."""

LIMIT: Final = 30_000_000
"""Bytes of a request or an answer that RunPod passes on; its limit is 30 MB each way."""

_AT_ONCE: Final = ("/sdapi/v1/interrupt", "/sdapi/v1/skip")
"""Routes that act on the image being drawn, so that they cannot wait for it."""

_THREADS: Final = 32
_MAX_HEADER: Final = 4000  # characters; proxies refuse longer headers
_STATUSES: Final[Mapping[str, int]] = {
    "input-invalid": 422,
    "name-unknown": 404,
    "weights-missing": 404,
    "not-ready": 503,
    "job-timeout": 504,
}
"""HTTP statuses for errors of the worker, by their code; 500 for any other."""


def serve(settings: Settings, context: JobContext) -> int:
    """Serve until stopped; running requests get STOP_TIMEOUT to end.

    Raises:
        UserError: a port is in use (code `port-taken`).
    """
    ports = dict.fromkeys((settings.port, settings.port_health))
    sockets = [_listen(port) for port in ports]  # at once: the imports take half a second
    import uvicorn  # type: ignore[import-not-found]  # in the handler's own environment only

    config = uvicorn.Config(
        LoadBalancer(settings, context),
        access_log=False,
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=int(settings.stop_timeout),
    )
    threading.Thread(target=_prefetch, args=(settings, context), daemon=True).start()
    log("listening", ports=",".join(map(str, ports)))
    uvicorn.Server(config).run(sockets=sockets)
    return 0


class LoadBalancer:
    """ASGI application of one worker.

    Args:
        settings: of the worker.
        context: what requests run in.
    """

    def __init__(self, settings: Settings, context: JobContext) -> None:
        self._settings, self._context = settings, context
        self._counter = JobCounter(settings.worker_dir)
        self._turn = asyncio.Lock()
        self._threads = ThreadPoolExecutor(_THREADS)

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        from starlette.requests import Request  # type: ignore[import-not-found]  # as uvicorn
        from starlette.responses import Response  # type: ignore[import-not-found]

        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        status, headers, body = await self._respond(request)
        headers = {"Content-Type": "application/json", **headers} if body else headers
        await Response(body, status, headers)(scope, receive, send)

    async def _respond(self, request: Any) -> tuple[int, dict[str, str], bytes]:  # noqa: ANN401
        """Return status, headers and body."""
        path = request.url.path
        if path == HEALTH:
            return _health(self._settings), {}, b""
        if not self._is_allowed(request.headers.get("Authorization", "")):
            headers = {"WWW-Authenticate": "Basic"}
            return _error(401, "HTTPException", "Incorrect username or password", headers)
        body = await request.body()
        if len(body) > LIMIT:
            message = f"the request has {size(len(body))}, over the limit of {size(LIMIT)}"
            return _error(413, "HTTPException", message)
        try:
            fields = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            return _error(422, "input-invalid", "the request's body is no JSON")
        if not isinstance(fields, dict):
            return _error(422, "input-invalid", "the request's body is no JSON object")
        target = f"{path}?{request.url.query}" if request.url.query else path
        given = JobInput(request.method, target, fields, self._context.time_limit)
        return await self._answer(request, given, path)

    async def _answer(
        self,
        request: Any,  # noqa: ANN401 - starlette's
        given: JobInput,
        path: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Run a request when it is its turn."""
        loop, started_at = asyncio.get_running_loop(), time.monotonic()
        self._counter.add(running=1)
        status = 0
        try:
            if given.method == "GET" or path in _AT_ONCE:
                answer = await loop.run_in_executor(self._threads, self._run, given)
            else:
                async with self._turn:
                    if await request.is_disconnected():  # it would be drawn for nobody
                        log("request-left", path=path)
                        return 499, {}, b""
                    answer = await loop.run_in_executor(self._threads, self._run, given)
            status = answer[0]
            return answer
        finally:
            seconds, done = time.monotonic() - started_at, status == HTTPStatus.OK
            self._counter.add(running=-1, done=done, failed=not done, seconds=seconds)
            if given.method != "GET":
                log("request-done", path=path, status=status, seconds=seconds)

    def _run(self, given: JobInput) -> tuple[int, dict[str, str], bytes]:
        """Have the WebUI answer a request; no error ends the worker."""
        context, deadline = self._context, active_time() + given.timeout
        try:
            context.wait_until_ready(given.timeout)
            if missing := _find_no_route(given, context):
                return _error(404, "HTTPException", missing)
            answer = ask_webui(given, context, deadline, output=OutputSettings())
        except UserError as error:
            if isinstance(error, PoisonedError):
                context.replace_webui()
            by_webui = error.status if isinstance(error, WebuiError) else 0
            status = by_webui or _STATUSES.get(error.code, 500)
            log("request-failed", level="warning", path=given.endpoint, reason=str(error))
            return _error(status, error.code or type(error).__name__, str(error))
        except Exception as error:  # a bug of this code must cost one request, not the worker
            log("request-crashed", level="error", path=given.endpoint, reason=repr(error))
            return _error(500, type(error).__name__, f"the worker failed on this: {error}")
        body = json.dumps(answer.content).encode()
        if len(body) > LIMIT:
            message = f"the answer has {size(len(body))}, and RunPod passes on {size(LIMIT)}"
            return _error(500, "answer-too-large", message)
        return 200, _warn(answer.warnings), body

    def _is_allowed(self, authorization: str) -> bool:
        """Return whether a request has one of the logins of API_AUTH, if there are any."""
        if not self._settings.api_auth:
            return True
        import base64
        import binascii

        scheme, _, encoded = authorization.partition(" ")
        try:
            login = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return False
        known = (each.encode() for each in self._settings.api_auth.split(","))
        matches = [secrets.compare_digest(login, each) for each in known]
        return scheme.lower() == "basic" and any(matches)


def _health(settings: Settings) -> int:
    """Return the status that says whether this worker takes requests."""
    phase = read_state(settings.worker_dir).phase
    if phase == "ready":
        return 200
    return 503 if phase in ("draining", "stopped") else 204


def _find_no_route(given: JobInput, context: JobContext) -> str:
    """Return why requests may not use a route, or that there is none; empty for one they may."""
    context.facts.renew()
    api, allowed = context.facts.api, context.policy.allowed
    try:
        find_route(api, given.method, given.endpoint, has_fields=True, allowed=allowed)
    except UserError as error:
        return str(error)
    return ""


def _warn(warnings: tuple[str, ...]) -> dict[str, str]:
    """Return the header with as many warnings as fit into it."""
    kept = list(warnings)
    while len(text := json.dumps(kept)) > _MAX_HEADER:
        kept.pop()
    return {WARNINGS_HEADER: text} if kept else {}


def _error(
    status: int, name: str, message: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Return an error with the keys of `handle_exception` in the WebUI's `modules/api/api.py`."""
    content = {"error": name, "detail": message, "body": "", "errors": message}
    return status, headers or {}, json.dumps(content).encode()


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("0.0.0.0", port), backlog=2048)  # noqa: S104 - RunPod's proxy
    except OSError as error:
        hint = "set PORT and PORT_HEALTH to free ones"
        raise UserError(f"port {port}: {error.strerror}", hint=hint, code="port-taken") from None


def _prefetch(settings: Settings, context: JobContext) -> None:
    """Read the WebUI's facts once it is ready, before the first request needs them."""
    with suppress(UserError):
        context.wait_until_ready(settings.ready_timeout)
        context.facts.prefetch()

"""Refuse settings that cannot work together, or with which every job would fail.

Each value is valid by itself, so the worker would start, and fail later for another reason.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_flags import list_flags
from scripts.container.log import log
from scripts.container.setting_parsers import parse_number
from scripts.container.settings import Settings

_PLATFORM_LIMIT: Final = "RUNPOD_INIT_TIMEOUT"


def refuse_conflicts(settings: Settings) -> None:
    """Check the settings of a worker that is to serve.

    Raises:
        UserError: two of them conflict (code `setting-invalid`); the first one is named.
    """
    for message, hint in _find_conflicts(settings):
        raise UserError(message, hint=hint, code="setting-invalid")


def warn_of_platform_limit(settings: Settings, environ: Mapping[str, str]) -> None:
    """Log a warning where RunPod ends a slow start before the worker can say why it is slow."""
    try:
        limit = parse_number(environ.get(_PLATFORM_LIMIT, ""))
    except ValueError:
        return
    if settings.is_serverless and limit <= settings.ready_timeout:
        reason = f"READY_TIMEOUT is {settings.ready_timeout:g}, {_PLATFORM_LIMIT} {limit:g}"
        hint = f"raise {_PLATFORM_LIMIT}, or lower READY_TIMEOUT"
        log("late-reason", level="warning", reason=reason, hint=hint)


def _find_conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield message and hint of each conflict.

    What the flags do was read in `modules/cmd_args.py`, `initialize.py` and `api/api.py` of v1.9.3
    and v1.10.1.
    """
    if not settings.webui_port:
        yield "WEBUI_PORT is 0", "set it to the number of a free port"
    if settings.webui_port == settings.metrics_port:
        yield (
            f"WEBUI_PORT and METRICS_PORT are both {settings.webui_port}",
            "set METRICS_PORT to another port, or to 0",
        )
    if settings.is_load_balancer:
        own = (settings.webui_port, settings.metrics_port)
        for name, port in (("PORT", settings.port), ("PORT_HEALTH", settings.port_health)):
            if not port or port in own:
                taken = "WEBUI_PORT or METRICS_PORT" if port else "no port"
                yield f"{name} is {port}, {taken}", f"set {name} to another port"
    flags = set(list_flags(settings.further_flags))
    for flag, variable in (
        ("--port", "WEBUI_PORT"),
        ("--api-auth", "API_AUTH"),
        ("--data-dir", "DATA_DIR"),
    ):
        if flag in flags:
            message = f"WEBUI_ARGS sets {flag}, of which the worker knows nothing"
            yield message, f"set {variable} instead"
    if {"--tls-keyfile", "--tls-certfile"} <= flags:
        message = "WEBUI_ARGS makes the WebUI speak TLS, which neither readiness nor jobs do"
        yield message, "remove --tls-keyfile and --tls-certfile; let a proxy before it speak TLS"
    if "--ui-debug-mode" in flags:
        yield "with --ui-debug-mode the WebUI loads no checkpoint", "remove it from WEBUI_ARGS"

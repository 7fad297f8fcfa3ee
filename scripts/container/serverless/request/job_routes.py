"""Find the route of the WebUI that a job is for, and refuse those that jobs may not use.

Jobs may use every route below `/sdapi/v1/` that is not in DENIED, and routes of extensions that
`API_ALLOW` or the image's own extensions name: some extensions install packages or write files for
everyone who can reach them. Routes that install something must be named by their whole path.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.webui_api import PREFIX, FieldType, Route, WebuiApi

NAMES: Final = {
    "extras": ("POST", "extra-single-image"),
    "extra": ("POST", "extra-single-image"),
    "upscale": ("POST", "extra-single-image"),
    "pnginfo": ("POST", "png-info"),
    "getModels": ("GET", "sd-models"),
    "getOptions": ("GET", "options"),
    "setOptions": ("POST", "options"),
    "getLoras": ("GET", "loras"),
    "getControlnetModels": ("GET", "/controlnet/model_list"),
}
"""Names of routes in other workers; every other name is the route's own, such as `txt2img`."""

DENIED: Final = {
    "server-kill": "stops the WebUI",
    "server-restart": "restarts the WebUI",
    "server-stop": "stops the WebUI",
    "create/*": "writes files",
    "train/*": "trains for hours, and writes files",
}
"""Routes below `/sdapi/v1/` that no job may use, and what they do."""

_INSTALLS: Final = re.compile(r"(?:^|[/_-])(?:un)?install", re.IGNORECASE)
"""Paths of extensions that install packages, such as `/physton_prompt/install_package`."""

_MODELS: Final = "models come with the image or its volume: see docs/how-to/models.md"
_OTHER_WORKERS: Final = {"/v1/download": _MODELS, "/v1/sync": _MODELS}
"""Functions of other workers that are no routes of the WebUI, and what to do instead."""

_CODE: Final = "input-invalid"


def find_route(
    api: WebuiApi | None, method: str, endpoint: str, *, has_fields: bool, allowed: Sequence[str]
) -> tuple[Route, Mapping[str, Any]]:
    """Return the route that a job names, and the fields in the query of its address.

    Args:
        api: of the running WebUI; None where it is not described.
        method: GET, POST, …; empty where the job names none.
        endpoint: name or path, with or without a leading slash.
        has_fields: the job has fields; without a method that decides between GET and POST.
        allowed: prefixes of further routes that jobs may use.

    Raises:
        UserError: there is no such route, or jobs may not use it (code `input-invalid`).
    """
    if endpoint in NAMES:
        usual, endpoint = NAMES[endpoint]
        method = method or usual
    try:
        address = urlsplit(endpoint)
    except ValueError:  # brackets that hold no IPv6 address
        raise _no_path(endpoint) from None
    path = _find_path(api, unquote(address.path).rstrip("/"))
    _refuse_denied(path, allowed)
    query = dict(parse_qsl(address.query))
    routes = api.find(path) if api else ()
    if api and not routes and path.startswith(PREFIX):
        raise _unknown(api, path)
    # An application that an extension mounts is not in the description.
    usual = "POST" if has_fields else "GET"
    routes = routes or (Route(method or usual, path, FieldType("object")),)
    preferred = (method,) if method else ("POST", "GET") if has_fields else ("GET", "POST")
    for each in preferred:
        for route in routes:
            if route.method == each:
                return Route(each, path, route.body, route.query), query
    methods = " or ".join(route.method for route in routes)
    raise UserError(f"input.api: {path} takes {methods}, not {method}", code=_CODE)


def _find_path(api: WebuiApi | None, path: str) -> str:
    """Return the whole path of a name, or of a path with or without leading slash.

    Raises:
        UserError: it is no path.
    """
    if not re.fullmatch(r"/?[\w.~-]+(/[\w.~-]+)*", path, re.ASCII) or ".." in path:
        raise _no_path(path)
    if path.startswith("/"):
        return path
    is_short = "/" not in path or (api is not None and bool(api.find(PREFIX + path)))
    return PREFIX + path if is_short and path != PREFIX.strip("/") else f"/{path}"


def _no_path(text: str) -> UserError:
    return UserError(f"input.api: {text[:60]!r} is no route of the WebUI", code=_CODE)


def _refuse_denied(path: str, allowed: Sequence[str]) -> None:
    if path.startswith(PREFIX):
        if effect := _find_effect(path.removeprefix(PREFIX)):
            raise UserError(f"input.api: jobs may not use {path}: it {effect}", code=_CODE)
        return
    if path in {prefix.rstrip("/") for prefix in allowed}:
        return
    if _INSTALLS.search(path):
        hint = f"API_ALLOW={path} on the worker would allow it, by its whole path only"
        message = f"input.api: jobs may not use {path}: it installs packages"
        raise UserError(message, hint=hint, code=_CODE)
    if any(path.startswith(f"{prefix.rstrip('/')}/") for prefix in allowed):
        return
    first = path.split("/")[1]
    usual = (
        f"set API_ALLOW=/{first}/ on the worker, or routes of the extension in config.yaml; without"
        f" it jobs may use {PREFIX}* only"
    )
    hint = _OTHER_WORKERS.get(path, usual)
    raise UserError(f"input.api: jobs may not use {path}", hint=hint, code=_CODE)


def _find_effect(name: str) -> str:
    """Return what a denied route does; empty for one that jobs may use."""
    for pattern, effect in DENIED.items():
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return effect
    return ""


def _unknown(api: WebuiApi, path: str) -> UserError:
    names = sorted({route.name for route in api.routes})
    own = [name for name in names if not name.startswith("/") and not _find_effect(name)]
    near = difflib.get_close_matches(path.removeprefix(PREFIX), own, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(own)}"
    return UserError(f"input.api: this WebUI has no {path}", hint=hint, code=_CODE)

"""Parse a job's input: the route that it is for, its fields, and what is the worker's own.

    {"prompt": "a lighthouse"}                                    txt2img, the default
    {"api": "img2img", "init_images": ["…"], "prompt": "…"}       another route, by name
    {"api": {"method": "POST", "endpoint": "/sdapi/v1/txt2img"}, "payload": {…}}

Whether the route exists and what its fields may hold is known to the running WebUI only:
`job_request.py` asks it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.field_values import MismatchError, convert, describe
from scripts.container.serverless.request.webui_api import FieldType

OWN_KEYS: Final[Mapping[str, str]] = {
    "api": "name or path of a route, or an object with `method` and `endpoint`; by default txt2img",
    "payload": "object with the route's fields; they win over fields beside `api`",
    "timeout": "seconds that the job may take, at most `JOB_TIMEOUT`",
    "output": "object with `format`, `quality` and `delivery` of the images that are returned",
    "controlnet_maps": "true returns the maps that ControlNet made of its input images, too",
    "previews": "true sends a small image with each report of progress, as far as it is drawn",
    "loras": "list of LoRAs by address: objects with `url`, `sha256` and `weight`",
    "checkpoint": "checkpoint by address: an object with `url` and `sha256`",
    "s3Config": "bucket of the job, as RunPod names it; usually beside `input`",
}
"""Keys of an input that are not sent to the WebUI, and their meaning."""

API_KEYS: Final = ("api", "api_name", "endpoint")
"""Keys that name the route: the first is this worker's own, the others are other workers'."""

WRAPPERS: Final = ("params", "payload")
"""Keys whose object holds the route's fields: what other clients send, and this worker's own."""

_REQUEST_KEYS: Final = ("id", "webhook", "policy")
"""Keys of a request to RunPod, which stand beside `input` where a whole request is sent twice."""

_CODE: Final = "input-invalid"
_NUMBER: Final = FieldType("number")


@dataclass(frozen=True)
class JobInput:
    """A job's input as it was sent.

    Args:
        method: of the route, in capitals; empty where the input names none.
        endpoint: name or path of the route; empty where the input names none.
        fields: of the route.
        timeout: seconds that the job may take.
        own: the input's keys that are for the worker, apart from those above.
        warnings: for the customer.
    """

    method: str = ""
    endpoint: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    timeout: float = math.inf
    own: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def parse_job_input(value: object, time_limit: float) -> JobInput:
    """Parse a job's input.

    Args:
        value: the job's `input`, any JSON.
        time_limit: seconds that a job may take.

    Raises:
        UserError: it is invalid; names the key (code `input-invalid`).
    """
    if not isinstance(value, dict):
        raise invalid("input", value, 'an object such as {"prompt": "a lighthouse"}')
    fields, warnings = _unwrap(value)
    method, endpoint = _take_api(fields)
    timeout = _take_timeout(fields, time_limit)
    for key in WRAPPERS:
        inner = fields.pop(key, None)
        if not isinstance(inner, dict | None):
            raise invalid(f"input.{key}", inner, "an object")
        fields.update(inner or {})
    own = {key: fields.pop(key) for key in OWN_KEYS if _is_own(key, fields)}
    return JobInput(method, endpoint, fields, timeout, own, tuple(warnings))


def _is_own(key: str, fields: Mapping[str, Any]) -> bool:
    """Return whether a key is there and for the worker; `checkpoint` as a text names an option."""
    return key in fields and (key != "checkpoint" or isinstance(fields[key], dict))


def invalid(name: str, value: object, expected: str) -> UserError:
    """Return the error for a field with a value that is not allowed."""
    return UserError(f"{name} must be {expected}, not {describe(value)}", code=_CODE)


def _unwrap(value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the keys of an input, or of another one inside it, and warnings."""
    if not isinstance(value.get("input"), dict):
        return dict(value), []
    outer = {key: value[key] for key in value if key not in ("input", *_REQUEST_KEYS)}
    inner, _ = _unwrap(value["input"])
    return {**outer, **inner}, ["input holds another input; send its content only"]


def _take_api(fields: dict[str, Any]) -> tuple[str, str]:
    """Remove the keys that name a route; return its method and its name or path."""
    method, endpoint = fields.pop("method", None), None
    for key in reversed(API_KEYS):
        found = fields.pop(key, None)
        if found is None:
            continue
        if isinstance(found, Mapping):
            method, found = found.get("method") or method, found.get("endpoint")
        if not isinstance(found, str) or not found.strip():
            expected = "the name of a route, or an object with method and endpoint"
            raise invalid(f"input.{key}", found, expected)
        endpoint = found
    if not isinstance(method, str | None):
        raise invalid("input.api.method", method, "GET or POST")
    return (method or "").strip().upper(), (endpoint or "").strip()


def _take_timeout(fields: dict[str, Any], time_limit: float) -> float:
    value = fields.pop("timeout", None)
    if value is None:
        return time_limit
    try:
        seconds = float(convert(_NUMBER, value))
    except MismatchError:
        seconds = math.nan
    if not 1 <= seconds <= time_limit:
        raise invalid("input.timeout", value, f"a number from 1 to {time_limit:g}")
    return seconds

"""Make the request to the WebUI out of a job's input: route, converted fields and warnings.

The running WebUI says which routes and fields there are. What it would ignore or read as something
else is a warning; what it would refuse is an error that names the field.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.job_fields import check_fields
from scripts.container.serverless.request.job_input import JobInput
from scripts.container.serverless.request.job_options import UNDONE
from scripts.container.serverless.request.job_routes import find_route
from scripts.container.serverless.request.webui_api import Route, WebuiApi
from scripts.container.serverless.request.webui_facts import WebuiFacts

DRAWING: Final = ("txt2img", "img2img")
"""Routes that draw for long and answer with `images`."""

DEFAULT: Final = "txt2img"
"""Route of an input that names none."""

_GUESSES: Final = ("img2img", "extra-single-image", "interrogate")
"""Routes that an input which names none may be for, where txt2img fits less well."""


@dataclass(frozen=True)
class JobRequest:
    """Request to the WebUI.

    Args:
        route: that it goes to.
        fields: of the job, converted; for a GET they are query parameters.
        timeout: seconds that the job may take.
        warnings: for the customer.
    """

    route: Route
    fields: dict[str, Any]
    timeout: float
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the route's path below `/sdapi/v1/`, such as `txt2img`; or its whole path."""
        return self.route.name

    @property
    def path(self) -> str:
        """Return the path, for a GET with the fields as query."""
        has_query = self.route.method == "GET" and self.fields
        return f"{self.route.path}?{urlencode(self.fields)}" if has_query else self.route.path

    @property
    def draws(self) -> bool:
        """Return whether it draws for long and answers with `images`."""
        return self.name in DRAWING

    @property
    def body(self) -> dict[str, Any] | None:
        """Return the JSON body; None for a route that takes none."""
        return None if self.route.method == "GET" or not self.route.takes_body else self.fields


@dataclass(frozen=True)
class InputPolicy:
    """Limits that the worker's settings put on inputs.

    Args:
        refuse_unknown: an unknown field is an error instead of a warning.
        allowed: prefixes of routes beside `/sdapi/v1/` that jobs may use.
    """

    refuse_unknown: bool = False
    allowed: tuple[str, ...] = ()


def make_request(given: JobInput, facts: WebuiFacts, policy: InputPolicy) -> JobRequest:
    """Return the request for a job's input.

    Args:
        given: the input.
        facts: about the running WebUI.
        policy: of the worker.

    Raises:
        UserError: the WebUI has no such route or would refuse a field, or jobs may not use it
            (code `input-invalid`).
    """
    warnings = list(given.warnings)
    endpoint = given.endpoint
    if not endpoint:
        endpoint = _guess_endpoint(facts.api, given.fields)
        if endpoint != DEFAULT:
            warnings.append(f"no api is named; the fields are those of {endpoint}")
    route, query = find_route(
        facts.api,
        given.method or ("POST" if endpoint == DEFAULT else ""),
        endpoint,
        has_fields=bool(given.fields),
        allowed=policy.allowed,
    )
    fields = {**query, **_copy(given.fields)}
    if not facts.api:
        warnings.append("the WebUI's /openapi.json cannot be read: fields were not checked")
    if route.method == "POST" and route.name in UNDONE:
        warnings.append(UNDONE[route.name])
    warnings += check_fields(route, fields, facts, refuse_unknown=policy.refuse_unknown)
    return JobRequest(route, fields, given.timeout, tuple(warnings))


def _copy(fields: dict[str, Any]) -> dict[str, Any]:
    """Copy fields before they are changed; their texts, which may be large, are shared.

    Raises:
        UserError: they are nested too deeply (code `input-invalid`).
    """
    try:
        return deepcopy(fields)
    except RecursionError:
        raise UserError("input is nested too deeply", code="input-invalid") from None


def _guess_endpoint(api: WebuiApi | None, fields: Mapping[str, Any]) -> str:
    """Return the route whose fields these are: txt2img unless another one fits better.

    Raises:
        UserError: several fit better (code `input-invalid`).
    """
    if api is None:
        return "img2img" if fields.get("init_images") else DEFAULT
    given = [name for name, value in fields.items() if value not in (None, "", [])]
    routes = {name: _known_fields(api, name) for name in (DEFAULT, *_GUESSES)}
    fits = {name: sum(each in known for each in given) for name, known in routes.items()}
    best = [name for name in _GUESSES if fits[name] == max(fits.values()) > fits[DEFAULT]]
    if len(best) > 1:
        hint = f"set it to one of: {', '.join(best)}"
        raise UserError("input.api is missing", hint=hint, code="input-invalid")
    return best[0] if best else DEFAULT


def _known_fields(api: WebuiApi, name: str) -> Sequence[str]:
    routes = [route for route in api.find(f"/sdapi/v1/{name}") if route.method == "POST"]
    return list(routes[0].fields or ()) if routes else []

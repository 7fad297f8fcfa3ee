"""Parse a job's input: which endpoint of the WebUI it is for, and whether its fields are valid.

    {"prompt": "a lighthouse"}                                    txt2img, the default
    {"api": "img2img", "init_images": ["…"], "prompt": "…"}       another endpoint, by name
    {"api": {"method": "POST", "endpoint": "/sdapi/v1/txt2img"}, "payload": {…}}

Fields with a rule are checked here, because the WebUI's own answer to a wrong one is hard to read,
late, or a crash. Others are passed on: they may be meant for an extension.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from scripts.common.diagnostics.error import UserError


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of the WebUI's API that jobs may use.

    Args:
        method: GET or POST.
        path: its path.
        draws: it takes long and answers with `images`.
        required: fields that it needs.
    """

    method: str
    path: str
    draws: bool = False
    required: tuple[str, ...] = ()


ENDPOINTS: Final = {
    "txt2img": Endpoint("POST", "/sdapi/v1/txt2img", draws=True),
    "img2img": Endpoint("POST", "/sdapi/v1/img2img", draws=True, required=("init_images",)),
    "extras": Endpoint("POST", "/sdapi/v1/extra-single-image", required=("image",)),
    "interrogate": Endpoint("POST", "/sdapi/v1/interrogate", required=("image",)),
    "options": Endpoint("GET", "/sdapi/v1/options"),
    "sd-models": Endpoint("GET", "/sdapi/v1/sd-models"),
    "samplers": Endpoint("GET", "/sdapi/v1/samplers"),
    "upscalers": Endpoint("GET", "/sdapi/v1/upscalers"),
}


_KINDS: Final[dict[str, tuple[str, Any]]] = {
    "text": ("text", (str,)),
    "whole": ("a whole number", (int, float)),
    "number": ("a number", (int, float)),
    "switch": ("true or false", (bool,)),
    "list": ("a list", (list,)),
    "texts": ("a list of at least one text", (list,)),
    "map": ("an object", (dict,)),
}
"""Description and types of each kind of field."""


@dataclass(frozen=True)
class FieldRule:
    """Allowed values of a field.

    Args:
        kind: a key of _KINDS.
        low: smallest number.
        high: largest number.
        step: whole numbers are multiples of it.
    """

    kind: str
    low: float = -math.inf
    high: float = math.inf
    step: int = 1

    def __str__(self) -> str:
        bounds = f" from {self.low:g} to {self.high:g}" if self.high < math.inf else ""
        return _KINDS[self.kind][0] + bounds + (f" in steps of {self.step}" * (self.step > 1))

    def allows(self, value: Any) -> bool:  # noqa: ANN401 - any JSON
        """Return whether the field may have a value."""
        types = _KINDS[self.kind][1]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            return False
        if self.kind == "texts":
            return value != [] and all(isinstance(text, str) for text in value)
        if float in types:  # the bounds refuse NaN as well
            is_step = self.kind == "number" or value % self.step == 0
            return self.low <= value <= self.high and is_step
        return True


_FIELDS_BY_RULE: Final = {
    FieldRule("text"): "prompt negative_prompt sampler_name scheduler hr_upscaler script_name mask"
    " image model upscaler_1 upscaler_2",
    FieldRule("list"): "styles script_args",
    FieldRule("texts"): "init_images",
    FieldRule("map"): "override_settings alwayson_scripts",
    FieldRule("switch"): "enable_hr restore_faces tiling send_images save_images"
    " include_init_images override_settings_restore_afterwards",
    FieldRule("whole", -1, 2**63 - 1): "seed subseed",
    FieldRule("whole", 1, 1000): "steps",
    FieldRule("whole", 0, 1000): "hr_second_pass_steps",
    FieldRule("whole", 64, 4096, step=8): "width height",
    FieldRule("whole", 1, 64): "batch_size",
    FieldRule("whole", 1, 100): "n_iter",
    FieldRule("number", 0, 1): "denoising_strength subseed_strength",
    FieldRule("number", 0, 100): "cfg_scale",
    FieldRule("number", 1, 8): "hr_scale upscaling_resize",
}
FIELD_RULES: Final = {
    name: rule for rule, names in _FIELDS_BY_RULE.items() for name in names.split()
}

MISNAMED: Final = {
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "num_images": "batch_size",
    "num_images_per_prompt": "batch_size",
    "sampler": "sampler_name",
    "negative": "negative_prompt",
    "strength": "denoising_strength",
    "checkpoint": "override_settings.sd_model_checkpoint",
}
"""Names of fields in other programs, which the WebUI ignores silently."""

_CODE: Final = "input-invalid"
_MAX_SHOWN: Final = 60


def _parse_endpoint_name(value: object) -> str:
    """Return the key of ENDPOINTS for a name, or for an object with `method` and `endpoint`."""
    if isinstance(value, Mapping):
        method, path = value.get("method", "POST"), value.get("endpoint")
        for name, endpoint in ENDPOINTS.items():
            if (endpoint.method, endpoint.path) == (method, path):
                return name
        value = f"{method} {path}"
    if isinstance(value, str) and value in ENDPOINTS:
        return value
    raise _invalid("input.api", value, f"one of: {', '.join(ENDPOINTS)}")


class Envelope(BaseModel):
    """The worker's own part of a job's input; every other key is a field of the endpoint."""

    model_config = ConfigDict(strict=True)

    api: Annotated[str, BeforeValidator(_parse_endpoint_name)] = "txt2img"
    payload: dict[str, Any] = {}
    timeout: float = math.inf  # checked against the worker's limit


@dataclass(frozen=True)
class JobRequest:
    """A job's input, parsed.

    Args:
        name: of the endpoint, a key of ENDPOINTS.
        endpoint: the request's endpoint.
        body: sent to it; None for a GET.
        timeout: seconds that the job may take.
        warnings: for the customer.
    """

    name: str
    endpoint: Endpoint
    body: dict[str, Any] | None
    timeout: float
    warnings: tuple[str, ...]


def parse_job_input(value: object, time_limit: float) -> JobRequest:
    """Parse a job's input.

    Args:
        value: the job's `input`, any JSON.
        time_limit: seconds that a job may take.

    Raises:
        UserError: it is invalid; names the field (code `input-invalid`).
    """
    if not isinstance(value, dict):
        raise _invalid("input", value, 'an object such as {"prompt": "a lighthouse"}')
    envelope = _parse_envelope(value, time_limit)
    own = Envelope.model_fields
    fields = {**{key: value[key] for key in value if key not in own}, **envelope.payload}
    name, endpoint = envelope.api, ENDPOINTS[envelope.api]
    timeout = min(envelope.timeout, time_limit)
    if endpoint.method == "GET":
        return JobRequest(name, endpoint, None, timeout, _warn_unused(name, fields))
    _check_fields(name, endpoint, fields)
    body, warnings = _limit_to_job(fields)
    return JobRequest(name, endpoint, body, timeout, warnings)


def _parse_envelope(value: dict[str, Any], time_limit: float) -> Envelope:
    limit = FieldRule("number", 1, time_limit)
    try:
        envelope = Envelope.model_validate(value)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        expected = {"payload": "an object", "timeout": str(limit)}[field]
        raise _invalid(f"input.{field}", value[field], expected) from None
    if not limit.allows(value.get("timeout", time_limit)):
        raise _invalid("input.timeout", value["timeout"], str(limit))
    return envelope


def _check_fields(name: str, endpoint: Endpoint, fields: Mapping[str, Any]) -> None:
    for field in endpoint.required:
        if field not in fields:
            raise UserError(f"input.{field} is missing", hint=f"{name} needs it", code=_CODE)
    for field, rule in FIELD_RULES.items():
        # null means "as if not given" to the WebUI, wherever it has a default.
        value = fields.get(field)
        if (value is not None or field in endpoint.required) and not rule.allows(value):
            raise _invalid(f"input.{field}", value, str(rule))


def _limit_to_job(fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a body whose settings end with the job, and warnings about its fields."""
    warnings = [
        f"{wrong} is not a field of the WebUI and does nothing; did you mean {right}?"
        for wrong, right in MISNAMED.items()
        if wrong in fields
    ]
    body = dict(fields)
    if body.get("override_settings_restore_afterwards") is False:
        body["override_settings_restore_afterwards"] = True
        warnings.append("override_settings always end with the job")
    return body, tuple(warnings)


def _warn_unused(name: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a warning about the fields of an endpoint that takes none."""
    if not fields:
        return ()
    hint = "; use override_settings to change options for one job" if name == "options" else ""
    return (f"{name} takes no fields; these do nothing: {', '.join(map(_shorten, fields))}{hint}",)


def _invalid(field: str, value: object, expected: str) -> UserError:
    return UserError(f"{field} must be {expected}, not {_shorten(value)}", code=_CODE)


def _shorten(value: object) -> str:
    """Describe a value in few characters, however long it is."""
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        return "an empty list" if value == [] else kind
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"

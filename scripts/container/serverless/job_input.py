"""Reads a job's input: which part of the WebUI's API it means, and whether its fields make sense.

    {"prompt": "a lighthouse"}                                    txt2img, the default
    {"api": "img2img", "init_images": ["…"], "prompt": "…"}       another part, by name
    {"api": {"method": "POST", "endpoint": "/sdapi/v1/txt2img"}, "payload": {…}}

Fields with a rule are checked here, because the WebUI's own answer to a wrong one is hard to read,
late, or a crash. Others are passed on: they may be meant for an extension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scripts.common.diagnostics.error import UserError


@dataclass(frozen=True)
class Api:
    """One part of the WebUI's API that jobs may use.

    Args:
        method: GET or POST.
        path: its address.
        draws: whether it takes long and answers with `images`.
        required: fields it cannot do without.
    """

    method: str
    path: str
    draws: bool = False
    required: tuple[str, ...] = ()


APIS: Final = {
    "txt2img": Api("POST", "/sdapi/v1/txt2img", draws=True),
    "img2img": Api("POST", "/sdapi/v1/img2img", draws=True, required=("init_images",)),
    "extras": Api("POST", "/sdapi/v1/extra-single-image", required=("image",)),
    "interrogate": Api("POST", "/sdapi/v1/interrogate", required=("image",)),
    "options": Api("GET", "/sdapi/v1/options"),
    "sd-models": Api("GET", "/sdapi/v1/sd-models"),
    "samplers": Api("GET", "/sdapi/v1/samplers"),
    "upscalers": Api("GET", "/sdapi/v1/upscalers"),
}


@dataclass(frozen=True)
class Rule:
    """What a field may be.

    Args:
        kind: text, whole, number, switch, list, texts (a list of at least one) or map.
        low: smallest number.
        high: largest number.
        step: numbers are multiples of it.
    """

    kind: str
    low: float = -math.inf
    high: float = math.inf
    step: int = 1

    def __str__(self) -> str:
        words = {
            "text": "text",
            "whole": "a whole number",
            "number": "a number",
            "switch": "true or false",
            "list": "a list",
            "texts": "a list of at least one text",
            "map": "an object",
        }[self.kind]
        bounds = f" from {self.low:g} to {self.high:g}" if self.high < math.inf else ""
        return words + bounds + (f" in steps of {self.step}" if self.step > 1 else "")

    def allows(self, value: object) -> bool:
        """Whether a value is what the field may be."""
        if self.kind in ("whole", "number"):
            return self._allows_number(value)
        if self.kind == "texts":
            return isinstance(value, list) and bool(value) and all(map(_is_text, value))
        kinds: dict[str, type] = {"text": str, "switch": bool, "list": list, "map": dict}
        return isinstance(value, kinds[self.kind])

    def _allows_number(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high:  # refuses NaN as well
            return False
        return self.kind == "number" or (value == int(value) and int(value) % self.step == 0)


_SIDE: Final = Rule("whole", 64, 4096, step=8)
_SEED: Final = Rule("whole", -1, 2**63 - 1)
_SHARE: Final = Rule("number", 0, 1)
_TEXT: Final = Rule("text")
_SWITCH: Final = Rule("switch")
_MAP: Final = Rule("map")

RULES: Final = {
    "prompt": _TEXT,
    "negative_prompt": _TEXT,
    "styles": Rule("list"),
    "seed": _SEED,
    "subseed": _SEED,
    "subseed_strength": _SHARE,
    "steps": Rule("whole", 1, 1000),
    "width": _SIDE,
    "height": _SIDE,
    "cfg_scale": Rule("number", 0, 100),
    "denoising_strength": _SHARE,
    "batch_size": Rule("whole", 1, 64),
    "n_iter": Rule("whole", 1, 100),
    "sampler_name": _TEXT,
    "scheduler": _TEXT,
    "enable_hr": _SWITCH,
    "hr_scale": Rule("number", 1, 8),
    "hr_upscaler": _TEXT,
    "hr_second_pass_steps": Rule("whole", 0, 1000),
    "restore_faces": _SWITCH,
    "tiling": _SWITCH,
    "send_images": _SWITCH,
    "save_images": _SWITCH,
    "override_settings": _MAP,
    "override_settings_restore_afterwards": _SWITCH,
    "alwayson_scripts": _MAP,
    "script_name": _TEXT,
    "script_args": Rule("list"),
    "init_images": Rule("texts"),
    "include_init_images": _SWITCH,
    "mask": _TEXT,
    "image": _TEXT,
    "model": _TEXT,
    "upscaling_resize": Rule("number", 1, 8),
    "upscaler_1": _TEXT,
    "upscaler_2": _TEXT,
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
"""Other programs' names for fields, which the WebUI passes over in silence."""

_OWN: Final = ("api", "payload", "timeout")
_SHOWN: Final = 60


@dataclass(frozen=True)
class Order:
    """A job's input, understood.

    Args:
        name: of the API, a key of APIS.
        api: what it is.
        body: what is sent; None for a GET.
        timeout: seconds it may take.
        warnings: what the customer should know.
    """

    name: str
    api: Api
    body: dict[str, Any] | None
    timeout: float
    warnings: tuple[str, ...]


def read_order(given: object, longest: float) -> Order:
    """Understand a job's input.

    Args:
        given: the value of the job's `input`, any JSON.
        longest: seconds that a job may take.

    Raises:
        UserError: it cannot be meant; names the field (code `input-invalid`).
    """
    if not isinstance(given, Mapping):
        raise _wrong("input", given, 'an object such as {"prompt": "a lighthouse"}')
    name = _api_name(given.get("api", "txt2img"))
    payload = given.get("payload", {})
    if not isinstance(payload, Mapping):
        raise _wrong("input.payload", payload, "an object")
    fields = {**{key: given[key] for key in given if key not in _OWN}, **payload}
    limit = Rule("number", 1, longest)
    timeout = given.get("timeout", longest)
    if not limit.allows(timeout):
        raise _wrong("input.timeout", timeout, str(limit))
    api = APIS[name]
    if api.method == "GET":
        return Order(name, api, None, float(timeout), _useless(name, fields))
    _check(name, api, fields)
    return Order(name, api, *_kept_to_this_job(fields, float(timeout)))


def _check(name: str, api: Api, fields: Mapping[str, Any]) -> None:
    for field in api.required:
        if field not in fields:
            raise UserError(f"input.{field} is missing", hint=f"{name} needs it", code=_CODE)
    for field, rule in RULES.items():
        # null means "as if not given" to the WebUI, wherever it has a default.
        given = fields.get(field)
        if (given is not None or field in api.required) and not rule.allows(given):
            raise _wrong(f"input.{field}", given, str(rule))


def _kept_to_this_job(
    fields: dict[str, Any], timeout: float
) -> tuple[dict[str, Any], float, tuple[str, ...]]:
    """The body with settings that end with the job, the timeout, and what to warn about."""
    warnings = [
        f"{wrong} is not a field of the WebUI and does nothing; did you mean {right}?"
        for wrong, right in MISNAMED.items()
        if wrong in fields
    ]
    body = dict(fields)
    if body.get("override_settings_restore_afterwards") is False:
        body["override_settings_restore_afterwards"] = True
        warnings.append("override_settings always end with the job")
    return body, timeout, tuple(warnings)


def _useless(name: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """What to say about fields of something that only answers."""
    if not fields:
        return ()
    hint = "; use override_settings to change options for one job" if name == "options" else ""
    return (f"{name} takes no fields; these do nothing: {', '.join(map(_short, fields))}{hint}",)


def _api_name(given: object) -> str:
    """The key of APIS that is meant: a name, or an object with an endpoint."""
    if isinstance(given, Mapping):
        method, path = given.get("method", "POST"), given.get("endpoint")
        for name, api in APIS.items():
            if (api.method, api.path) == (method, path):
                return name
        given = f"{method} {path}"
    if isinstance(given, str) and given in APIS:
        return given
    raise _wrong("input.api", given, f"one of: {', '.join(APIS)}")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_CODE: Final = "input-invalid"


def _wrong(field: str, given: object, expected: str) -> UserError:
    return UserError(f"{field} must be {expected}, not {_short(given)}", code=_CODE)


def _short(value: object) -> str:
    """A value for a message, however long it is."""
    if isinstance(value, list | dict):
        return (
            "an empty list" if value == [] else "a list" if isinstance(value, list) else "an object"
        )
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"

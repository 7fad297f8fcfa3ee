"""Check the fields of a request against the running WebUI, and change what it reads otherwise.

Every change and everything that the WebUI would ignore becomes a warning; what it would refuse,
or fail on after drawing, is an error that names the field.
"""

import difflib
from collections.abc import Mapping
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.always_on_scripts import check_scripts
from scripts.container.serverless.request.field_values import convert_field, describe
from scripts.container.serverless.request.job_options import check_options
from scripts.container.serverless.request.samplers import FIELDS, adapt_samplers
from scripts.container.serverless.request.webui_api import MISSING, FieldType, Route
from scripts.container.serverless.request.webui_facts import WebuiFacts

MISNAMED: Final = {
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "num_images": "batch_size",
    "num_images_per_prompt": "batch_size",
    "num_outputs": "batch_size",
    "sampler": "sampler_name",
    "negative": "negative_prompt",
    "strength": "denoising_strength",
    "image": "init_images",
    "init_image": "init_images",
    "mask_image": "mask",
}
"""Names of fields in other programs, which the WebUI ignores silently."""

OPTION_NAMES: Final = {
    "clip_skip": "CLIP_stop_at_last_layers",
    "checkpoint": "sd_model_checkpoint",
    "model_name": "sd_model_checkpoint",
    "vae": "sd_vae",
}
"""Names of the WebUI's options in other programs and in its own user interface."""

SIDES: Final = ("width", "height", "hr_resize_x", "hr_resize_y")
"""Sides in pixels. The WebUI draws multiples of 8, rounded down: it divides by `opt_f` (`rng` in
`process_images_inner`, `modules/processing.py`). The request keeps the value, because a model of
SDXL is told the size that was requested."""

_CODE: Final = "input-invalid"


def check_fields(
    route: Route, fields: dict[str, Any], facts: WebuiFacts, *, refuse_unknown: bool
) -> list[str]:
    """Check and convert the fields of a request.

    Args:
        route: that they are for.
        fields: changed as the WebUI reads them.
        facts: about the running WebUI.
        refuse_unknown: an unknown field is an error instead of a warning.

    Returns:
        Warnings for the customer.

    Raises:
        UserError: the WebUI would refuse a field, or fail on it (code `input-invalid`).
    """
    warnings = _check_described(route, fields, facts, refuse_unknown=refuse_unknown)
    if route.name == "options" and route.method == "POST":
        return warnings + check_options(
            "input", fields, facts.options, has_extensions=facts.has_extensions
        )
    if isinstance(settings := fields.get("override_settings"), dict):
        warnings += check_options(
            "input.override_settings",
            settings,
            facts.options,
            has_extensions=facts.has_extensions,
        )
    if fields.get("override_settings_restore_afterwards") is False:
        fields["override_settings_restore_afterwards"] = True
        warnings.append("override_settings always end with the job")
    if any(fields.get(name) for name in FIELDS):
        warnings += adapt_samplers(fields, facts.samplers)
    warnings += check_scripts(
        fields, facts, is_img2img="img2img" in route.name, refuse_unknown=refuse_unknown
    )
    _check_second_pass(fields)
    return warnings + [
        f"{name}: the WebUI draws {value // 8 * 8} of {value} pixels, a multiple of 8"
        for name in SIDES
        if isinstance(value := fields.get(name), int) and value % 8
    ]


def _check_described(
    route: Route, fields: dict[str, Any], facts: WebuiFacts, *, refuse_unknown: bool
) -> list[str]:
    """Check fields by the description of their route; nothing where it is not described.

    Raises:
        UserError: as `check_fields`.
    """
    known = route.fields
    if known is None or not facts.api:
        return []
    warnings = _move_options(known, fields, facts)
    warnings += _check_names(route, known, fields, facts, refuse_unknown=refuse_unknown)
    warnings += _drop_empty(known, fields)
    for name in [name for name in fields if name in known]:
        warnings += convert_field(fields, name, known[name], name)
    for name in route.body.required if route.body else ():
        if name not in fields:
            hint = f"{route.name} needs it"
            raise UserError(f"input.{name} is missing", hint=hint, code=_CODE)
    return warnings


def _move_options(
    known: Mapping[str, FieldType], fields: dict[str, Any], facts: WebuiFacts
) -> list[str]:
    """Move options that stand beside `override_settings` into it."""
    settings = fields.get("override_settings")
    if "override_settings" not in known or not isinstance(settings, dict | None):
        return []
    warnings, settings = [], dict(settings or {})
    for name in [name for name in fields if name not in known]:
        option = OPTION_NAMES.get(name, name)
        if option not in facts.options or isinstance(fields[name], dict):
            continue
        value = fields.pop(name)
        if option in settings:
            warnings.append(f"{name} does nothing beside override_settings.{option}")
        elif value not in (None, ""):
            settings[option] = value
            warnings.append(f"{name} is an option: moved to override_settings.{option}")
    if settings:
        fields["override_settings"] = settings
    return warnings


def _check_names(
    route: Route,
    known: Mapping[str, FieldType],
    fields: Mapping[str, Any],
    facts: WebuiFacts,
    *,
    refuse_unknown: bool,
) -> list[str]:
    """Return a warning about each unknown field, with the nearest known one.

    Raises:
        UserError: one is unknown and that is an error, or it holds the fields of the route, or none
            is known: the route would be asked for nothing but its defaults.
    """
    warnings = []
    for name, value in fields.items():
        if name in known:
            continue
        if isinstance(value, dict) and any(inner in known for inner in value):
            hint = "send it as input.payload, or its content beside api"
            raise UserError(
                f"input.{name[:60]} holds the fields of {route.name}", hint=hint, code=_CODE
            )
        options = facts.options if "override_settings" in known else {}
        near = find_nearest_field(name, known, options)
        hint = f"did you mean {near}?" if near else f"{route.name} has no such field"
        if refuse_unknown:
            raise UserError(f"input.{name[:60]} is not a field of the WebUI", hint=hint, code=_CODE)
        warnings.append(
            f"{describe(name)[1:-1]} is not a field of the WebUI and does nothing; {hint}"
        )
    if known and fields and not known.keys() & fields.keys():
        raise UserError(f"input has no field of {route.name}", hint="; ".join(warnings), code=_CODE)
    return warnings


def find_nearest_field(
    name: str, known: Mapping[str, FieldType], options: Mapping[str, Any]
) -> str:
    """Return the known field or option that resembles a name most; empty if none does."""
    if MISNAMED.get(name) in known:
        return MISNAMED[name]
    candidates = {
        **{option.lower(): f"override_settings.{option}" for option in options},
        **{field.lower(): field for field in known},
    }
    near = difflib.get_close_matches(name.lower()[:80], candidates, n=1, cutoff=0.7)
    return candidates[near[0]] if near else ""


def _drop_empty(known: Mapping[str, FieldType], fields: dict[str, Any]) -> list[str]:
    """Remove null and "" where the WebUI refuses them, or reads them as the field's default.

    Where the default is null too, null stays: for a request with `infotext` it makes a difference.
    """
    dropped = []
    for name in [name for name in fields if name in known]:
        value, kind = fields[name], known[name]
        is_null = value is None and kind.default is not MISSING
        is_empty = value == "" and isinstance(value, str) and kind.default != ""
        if is_null or is_empty:
            del fields[name]
            if kind.default is not MISSING:
                dropped.append(f"{name} ({describe(kind.default)})")
    return [f"null or empty, so the default applies: {', '.join(dropped)}"] if dropped else []


def _check_second_pass(fields: Mapping[str, Any]) -> None:
    """Refuse a second pass without its strength, which the WebUI fails on after the first.

    `setup_img2img_steps` in `modules/sd_samplers_common.py` compares it with a number; an infotext
    or a script may set it.

    Raises:
        UserError: as above (code `input-invalid`).
    """
    sources = ("denoising_strength", "infotext", "script_name")
    if fields.get("enable_hr") is True and not any(fields.get(n) is not None for n in sources):
        hint = "enable_hr needs it: a number from 0 to 1"
        raise UserError("input.denoising_strength is missing", hint=hint, code=_CODE)

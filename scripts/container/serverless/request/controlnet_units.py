"""Rules for the arguments of ControlNet: one unit for each of its tabs.

A1111 lists each unit with its fields and defaults at `/sdapi/v1/script-info`. Choices, bounds and
older names stand in no answer of it: they are those of Mikubill/sd-webui-controlnet 1.1.455,
`internal_controlnet/args.py` and `scripts/enums.py`. A unit that does not fit is answered with 500
and a text that names no unit; one without its image or model shows in the log alone.
"""

from collections.abc import Mapping
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.field_values import describe
from scripts.container.serverless.request.input_images import is_address, is_base64_image
from scripts.container.serverless.request.script_units import Unit, UnitRules
from scripts.container.serverless.request.webui_api import MISSING, FieldType
from scripts.container.serverless.request.webui_facts import WebuiFacts

_OLD_NAMES: Final = {
    "guidance": "guidance_end",
    "lowvram": "low_vram",
    "input_image": "image",
    "mask_image": "mask",  # of Forge
}
_NUMBERED: Final = {
    "resize_mode": ("Just Resize", "Crop and Resize", "Resize and Fill", "Just Resize"),
    "control_mode": (
        "Balanced",
        "My prompt is more important",
        "ControlNet is more important",
    ),
}
"""Names of what the API of older versions numbered, which today's refuses."""

_CHOICES: Final = {
    "resize_mode": (
        *_NUMBERED["resize_mode"][:3],
        *("Inner Fit (Scale to Fit)", "Outer Fit (Shrink to Fit)"),
        *("Scale to Fit (Inner Fit)", "Envelope (Outer Fit)"),
    ),
    "control_mode": _NUMBERED["control_mode"],
    "input_mode": ("simple", "batch", "merge"),
    "hr_option": ("Both", "Low res only", "High res only"),
    "pulid_mode": ("Fidelity", "Extremely style"),
}
_BOUNDS: Final = {
    "weight": {"minimum": 0.0, "maximum": 2.0},
    "guidance_start": {"minimum": 0.0, "maximum": 1.0},
    "guidance_end": {"minimum": 0.0, "maximum": 1.0},
}
_IMAGES: Final = ("image", "mask")
_CODE: Final = "input-invalid"


def controlnet_rules(
    facts: WebuiFacts, fields: Mapping[str, Any], is_img2img: bool
) -> UnitRules | None:
    """Return the rules; None where A1111 does not list the fields of a unit."""
    taken = facts.script_arguments("controlnet", is_img2img=is_img2img)
    defaults = taken[0].get("value") if taken else None
    if not isinstance(defaults, dict) or "module" not in defaults:
        return None
    has_image = is_img2img and bool(fields.get("init_images"))
    return UnitRules(
        {name: _make_type(name, value) for name, value in defaults.items()},
        (),
        "control_net_unit_count",
        old_names=_OLD_NAMES,
        check=lambda unit, place: _check_unit(unit, place, facts, defaults, has_image=has_image),
    )


def _make_type(name: str, default: Any) -> FieldType:  # noqa: ANN401 - any JSON
    """Return the type of a field, as its default shows it; -1 stands for a fraction as well."""
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    kind = "any" if name in _CHOICES else kinds.get(type(default), "any")
    return FieldType(kind, MISSING if default is None else default, bounds=_BOUNDS.get(name, {}))


def _check_unit(
    unit: Unit,
    place: str,
    facts: WebuiFacts,
    defaults: Mapping[str, Any],
    *,
    has_image: bool,
) -> list[str]:
    """Check what ControlNet raises on, and name what older versions numbered.

    Raises:
        UserError: it would raise (code `input-invalid`).
    """
    warnings = []
    if "enabled" not in unit and not defaults.get("enabled"):
        unit["enabled"] = True
        warnings.append(f"{place} has no enabled, which was true in older versions: set to true")
    warnings += _name_numbers(unit, place)
    for name, choices in _CHOICES.items():
        if unit.get(name) not in (None, *choices):
            listed = ", ".join(map(repr, choices))
            message = f"input.{place}.{name} must be one of: {listed}, not {describe(unit[name])}"
            raise UserError(message, code=_CODE)
    used = {**defaults, **unit}
    if used.get("guidance_start", 0) > used.get("guidance_end", 1):
        message = f"input.{place}.guidance_start must be at most guidance_end"
        raise UserError(message, code=_CODE)
    if used.get("enabled"):
        _require_inputs(used, place, facts, has_image=has_image)
    return warnings


def _name_numbers(unit: Unit, place: str) -> list[str]:
    warnings = []
    for name, texts in _NUMBERED.items():
        number = str(unit.get(name))
        if number.isdecimal() and int(number) < len(texts):
            unit[name] = texts[int(number)]
            warnings.append(f"{place}.{name}: {number} is {unit[name]!r} now")
    return warnings


def _require_inputs(
    unit: Mapping[str, Any], place: str, facts: WebuiFacts, *, has_image: bool
) -> None:
    """Refuse a unit that is enabled and has no image, or no model where its module needs one.

    `choose_input_image` and `build_control_model` in scripts/controlnet.py.

    Raises:
        UserError: as above (code `input-invalid`).
    """
    is_batch = unit.get("input_mode", "simple") != "simple" or unit.get("animatediff_batch")
    for name in _IMAGES:
        text = unit.get(name)
        if isinstance(text, str) and text and not is_address(text) and not is_base64_image(text):
            raise UserError(f"input.{place}.{name} is no image in base64", code=_CODE)
    if not (unit.get("image") or unit.get("ipadapter_input") or has_image or is_batch):
        hint = "its unit is enabled and needs one"
        raise UserError(f"input.{place}.image is missing", hint=hint, code=_CODE)
    detail = (facts.find("/controlnet/module_list") or {}).get("module_detail", {})
    module = detail.get(str(unit["module"]), {})
    if module.get("model_free") is False and unit.get("model") in ("None", ""):
        hint = f"the module {unit['module']!r} needs one: GET /controlnet/model_list lists them"
        raise UserError(f"input.{place}.model is missing", hint=hint, code=_CODE)

"""Check the arguments that a job gives to scripts, and put them into the form that A1111 reads.

A1111 leaves out arguments in another form than `{"args": [...]}`, and those over the number that a
script takes (`init_script_args` in modules/api/api.py, v1.9.3 and v1.10.1). A script that fails on
its arguments shows in the log alone, after the image is drawn.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.adetailer_units import adetailer_rules
from scripts.container.serverless.request.controlnet_units import controlnet_rules
from scripts.container.serverless.request.field_values import describe
from scripts.container.serverless.request.script_units import UnitRules, check_units
from scripts.container.serverless.request.webui_facts import WebuiFacts

Fields = Mapping[str, Any]

_CODE: Final = "input-invalid"
_RULES: Final[Mapping[str, Callable[[WebuiFacts, Fields, bool], UnitRules | None]]] = {
    "adetailer": adetailer_rules,
    "controlnet": controlnet_rules,
}
"""Rules of scripts that take units, by the script's name."""


def check_scripts(
    fields: Fields, facts: WebuiFacts, *, is_img2img: bool, refuse_unknown: bool
) -> list[str]:
    """Check and convert the arguments in `alwayson_scripts`.

    Args:
        fields: of a request; changed.
        facts: about the running WebUI.
        is_img2img: the request is one for img2img.
        refuse_unknown: an unknown field of a unit is an error instead of a warning.

    Returns:
        Warnings for the customer.

    Raises:
        UserError: a script would ignore its arguments, or fail on them (code `input-invalid`).
    """
    found = fields.get("alwayson_scripts")
    scripts: dict[str, Any] = found if isinstance(found, dict) else {}
    warnings = []
    for name, content in list(scripts.items()):
        place = f"alwayson_scripts.{name[:60]}"
        taken = facts.script_arguments(name, is_img2img=is_img2img)
        make_rules = _RULES.get(name.lower()) if taken is not None else None
        rules = make_rules(facts, fields, is_img2img) if make_rules else None
        arguments, form_warnings = _read_arguments(content, rules, place)
        warnings += form_warnings
        if arguments is None:
            continue
        place, limit = f"{place}.args", len(taken or ())
        scripts[name] = {"args": arguments}
        if rules:
            warnings += check_units(
                arguments, rules, place, limit=limit, refuse_unknown=refuse_unknown
            )
        elif taken is not None and len(arguments) > limit:
            warnings.append(f"{place}: the script takes {limit} of the {len(arguments)} arguments")
    return warnings


def _read_arguments(
    content: Any,  # noqa: ANN401 - any JSON
    rules: UnitRules | None,
    place: str,
) -> tuple[list[Any] | None, list[str]]:
    """Return the arguments of a script, None where a job gives none, and warnings.

    Raises:
        UserError: they are in no form that is clear (code `input-invalid`).
    """
    if isinstance(content, list):
        return content, [f'{place}: the list is read as {{"args": [...]}}']
    if rules and rules.is_unit(content) and "args" not in content:
        return [content], [f'{place}: the object is read as {{"args": [{{...}}]}}']
    arguments = content.get("args", []) if isinstance(content, dict) else None
    if rules and rules.is_unit(arguments):
        return [arguments], [f"{place}.args: the object is read as a list of one"]
    if isinstance(arguments, list):
        return (arguments if "args" in content else None), []
    message = f'input.{place} must be an object such as {{"args": [...]}}, not {describe(content)}'
    raise UserError(message, code=_CODE)

"""Check the units of scripts whose arguments are objects: names and types of their fields.

What a unit may hold is read from the running extension, so that any version of it is checked by its
own rules. What is left out there is in `adetailer_units.py` and `controlnet_units.py`.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.field_values import (
    MismatchError,
    convert,
    convert_field,
    describe,
)
from scripts.container.serverless.request.webui_api import MISSING, FieldType

_CODE: Final = "input-invalid"
_SWITCH: Final = FieldType("boolean")

Unit = dict[str, Any]


@dataclass(frozen=True)
class UnitRules:
    """Rules for the arguments of one script.

    Args:
        fields: type of each field of a unit.
        switches: defaults of the switches that stand before the units.
        option: option of the WebUI that sets the number of units.
        old_names: today's name of fields by the names that the extension had for them.
        ignores_unit: the extension ignores a unit that has an unknown field.
        check: checks a unit further, by its place in the request; changes it, returns warnings.
    """

    fields: Mapping[str, FieldType]
    switches: tuple[bool, ...]
    option: str
    old_names: Mapping[str, str] = field(default_factory=dict)
    ignores_unit: bool = False
    check: Callable[[Unit, str], list[str]] = lambda _unit, _place: []

    def is_unit(self, value: Any) -> bool:  # noqa: ANN401 - any JSON
        """Return whether a value is an object with at least one field of a unit."""
        return isinstance(value, dict) and any(
            name in self.fields or name in self.old_names for name in value
        )


def check_units(
    arguments: list[Any], rules: UnitRules, place: str, *, limit: int, refuse_unknown: bool
) -> list[str]:
    """Check the arguments of a script that takes units, and put them at their positions.

    Args:
        arguments: changed.
        rules: of the script.
        place: of the list in the request, such as `alwayson_scripts.ControlNet.args`.
        limit: number of arguments that the script takes.
        refuse_unknown: an unknown field is an error instead of a warning.

    Returns:
        Warnings for the customer.

    Raises:
        UserError: the extension would refuse or ignore a unit (code `input-invalid`).
    """
    warnings = _place_switches(arguments, rules.switches, place)
    count, most = len(arguments) - len(rules.switches), limit - len(rules.switches)
    if count > most:
        hint = f"the option {rules.option} sets how many: put it into webui.settings of config.yaml"
        raise UserError(f"input.{place} has {count} units of at most {most}", hint=hint, code=_CODE)
    for number, unit in enumerate(arguments):
        if number < len(rules.switches) or unit is None:
            continue
        where = f"{place}[{number}]"
        if not isinstance(unit, dict):
            raise UserError(f"input.{where} must be an object, not {describe(unit)}", code=_CODE)
        warnings += _check_unit(unit, rules, where, refuse_unknown=refuse_unknown)
    return warnings


def _place_switches(arguments: list[Any], switches: tuple[bool, ...], place: str) -> list[str]:
    """Convert the switches before the units, and insert those that are missing.

    A1111 puts arguments at their positions: a unit in the place of a switch leaves the first unit
    of the user interface at work beside it.
    """
    given = next((n for n, each in enumerate(arguments) if isinstance(each, dict)), len(arguments))
    for number, value in enumerate(arguments[: min(given, len(switches))]):
        try:
            switch = switches[number] if value is None else convert(_SWITCH, value)
        except MismatchError as error:
            raise UserError(f"input.{place}[{number}] {error}", code=_CODE) from None
        arguments[number] = switch
    missing = switches[given:] if given < len(arguments) else ()
    if not missing:
        return []
    arguments[given:given] = missing
    texts = ", ".join(str(each).lower() for each in missing)
    return [f"{place}: {texts} was put before the first unit, where the script takes switches"]


def _check_unit(unit: Unit, rules: UnitRules, place: str, *, refuse_unknown: bool) -> list[str]:
    warnings = []
    for old, name in rules.old_names.items():
        if old not in unit or name not in rules.fields:
            continue
        if name in unit:
            message = f"input.{place} has both {old} and {name}, which are one"
            raise UserError(message, code=_CODE)
        unit[name] = unit.pop(old)
        warnings.append(f"{place}.{old} is named {name} now")
    for name in [name for name in unit if name not in rules.fields]:
        near = difflib.get_close_matches(name.lower()[:80], rules.fields, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(rules.fields)}"
        where = f"{place}.{name[:60]}"
        if rules.ignores_unit or refuse_unknown:
            raise UserError(f"input.{where} is not a field of the extension", hint=hint, code=_CODE)
        near_text = f"; {hint}" if near else ""
        warnings.append(f"{where} is not a field of the extension and does nothing{near_text}")
    for name, kind in rules.fields.items():
        if name not in unit:
            continue
        if unit[name] is None and kind.default is not MISSING:
            del unit[name]
            warnings.append(f"{place}.{name} is null: the default applies")
            continue
        warnings += convert_field(unit, name, kind, f"{place}.{name}")
    return warnings + rules.check(unit, place)

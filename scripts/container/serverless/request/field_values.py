"""Convert the value of a field as the WebUI would, and say what is expected where it cannot.

The WebUI's requests are pydantic v1 models, which read "512" and "7.5" as numbers, 7.9 as the
integer 7, 1 and "yes" as true, and 5 as the text "5" (pydantic 1.10, `validators.py`). v1.9.3 and
v1.10.1 answered the same for every value of `tests/unit/test_field_values.py`.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.webui_api import FieldType

_SWITCHES: Final = {
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
    **dict.fromkeys(("0", "off", "f", "false", "n", "no"), False),
}
_BOUNDS: Final[dict[str, tuple[str, Callable[[Any, Any], bool]]]] = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "exclusiveMinimum": ("more than", operator.gt),
    "exclusiveMaximum": ("less than", operator.lt),
}
_MAX_SHOWN: Final = 60
_MAX_DIGITS: Final = 4000
"""Python refuses to read longer numbers (`sys.set_int_max_str_digits`)."""


class MismatchError(ValueError):
    """A value that the WebUI would refuse.

    Args:
        expected: description of the values that it takes.
        value: the one that was given.
        path: where in the field it is, such as `[0].name`.
    """

    def __init__(self, expected: str, value: object, path: str = "") -> None:
        super().__init__(f"must be {expected}, not {describe(value)}")
        self.expected, self.value, self.path = expected, value, path


def convert(kind: FieldType, value: Any, path: str = "") -> Any:  # noqa: ANN401 - any JSON
    """Return a value as the WebUI reads it.

    Null is returned as it is: where it is refused, and where not, the description does not say.

    Raises:
        MismatchError: the WebUI would refuse it.
    """
    if value is None or kind.kind not in _CONVERTERS:
        return value
    if kind.choices:
        for choice in kind.choices:
            if value == choice:
                return choice
        raise MismatchError(f"one of: {', '.join(map(repr, kind.choices))}", value, path)
    converted = _CONVERTERS[kind.kind](kind, value, path)
    for name, (text, holds) in _BOUNDS.items():
        if name in kind.bounds and not holds(converted, kind.bounds[name]):
            raise MismatchError(f"{text} {kind.bounds[name]:g}", value, path)
    return converted


def convert_field(holder: dict[str, Any], name: str, kind: FieldType, place: str) -> list[str]:
    """Convert a field of a request, or of an object in it; return a warning where that changes it.

    Args:
        holder: changed.
        name: of the field.
        kind: its type.
        place: of the field in the job's input, for messages.

    Raises:
        UserError: the WebUI would refuse it (code `input-invalid`).
    """
    value = holder[name]
    try:
        converted = convert(kind, value)
    except MismatchError as error:
        raise UserError(f"input.{place}{error.path} {error}", code="input-invalid") from None
    if converted == value and isinstance(converted, bool) == isinstance(value, bool):
        return []  # 20.0 is 20
    holder[name] = converted
    return [f"{place}: {describe(value)} is read as {describe(converted)}"]


def describe(value: object) -> str:
    """Describe a value in few characters, however long it is."""
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        return "an empty list" if value == [] else kind
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a huge number"
    text = repr(value) if not isinstance(value, str) else repr(value[: 2 * _MAX_SHOWN])
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _convert_integer(_kind: FieldType, value: Any, path: str) -> int:  # noqa: ANN401
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise MismatchError("a whole number", value, path) from None


def _convert_number(_kind: FieldType, value: Any, path: str) -> float:  # noqa: ANN401
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise MismatchError("a number", value, path) from None
    # The WebUI takes these and fails after drawing: its answer repeats them, and JSON has none.
    if not math.isfinite(number):
        raise MismatchError("a finite number", value, path)
    return number


def _convert_string(_kind: FieldType, value: Any, path: str) -> str:  # noqa: ANN401
    if not isinstance(value, str | int | float):
        raise MismatchError("text", value, path)
    if isinstance(value, int) and abs(value) >= 10**_MAX_DIGITS:
        raise MismatchError("text", value, path)
    return str(value)


def _convert_switch(_kind: FieldType, value: Any, path: str) -> bool:  # noqa: ANN401
    if isinstance(value, bool):
        return value
    text = str(int(value)) if isinstance(value, int | float) and value in (0, 1) else value
    switch = _SWITCHES.get(text.lower()) if isinstance(text, str) else None
    if switch is None:
        raise MismatchError("true or false", value, path)
    return switch


def _convert_array(kind: FieldType, value: Any, path: str) -> list[Any]:  # noqa: ANN401
    if not isinstance(value, list):
        raise MismatchError("a list", value, path)
    items = kind.items
    return [convert(items, v, f"{path}[{n}]") for n, v in enumerate(value)] if items else value


def _convert_object(kind: FieldType, value: Any, path: str) -> dict[str, Any]:  # noqa: ANN401
    try:
        found = dict(value)  # of pairs too, as pydantic does: [] is {}
    except (TypeError, ValueError):
        raise MismatchError("an object", value, path) from None
    for name in kind.required:
        if name not in found:
            raise MismatchError(f"an object with {name}", value, path)
    fields = kind.fields or {}
    return {
        name: convert(fields[name], each, f"{path}.{name}") if name in fields else each
        for name, each in found.items()
    }


_CONVERTERS: Final[dict[str, Callable[[FieldType, Any, str], Any]]] = {
    "integer": _convert_integer,
    "number": _convert_number,
    "string": _convert_string,
    "boolean": _convert_switch,
    "array": _convert_array,
    "object": _convert_object,
}

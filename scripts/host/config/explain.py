"""Says what is wrong with config or lock in one line: the place, and what was expected there."""

from __future__ import annotations

from pydantic import ValidationError

from scripts.common.diagnostics.error import UserError
from scripts.host.config.layers import Layer

_EXPECTED = {  # pydantic's types of errors in the words of a config
    "extra_forbidden": "unknown key",
    "missing": "missing value",
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "expected a map"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    "string_type": "expected text",
}


def explained(error: ValidationError, merged: Layer, *, whole: str, hint: str) -> UserError:
    """The first error as one line; the number of others is said, not their text.

    Args:
        error: pydantic's.
        merged: what was validated, with the place of each value.
        whole: what it is, for an error that belongs to no key.
        hint: what to do next.
    """
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda each: (each["type"] == "missing", len(each["loc"])))
    path = _path(first["loc"], merged)
    expected = _EXPECTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return UserError(
        f"{path or whole}: {expected}{more}", location=_origin(path, merged), hint=hint
    )


def _origin(path: str, merged: Layer) -> str:
    """Where a key path, or else the nearest one above it, was said."""
    while path and path not in merged.origins:
        path = path.rpartition(".")[0]
    return merged.origins.get(path, merged.name)


def _path(loc: tuple[int | str, ...], merged: Layer) -> str:
    """The key path of an error, without the tag pydantic adds for a member of a union."""
    keys = [str(part) for part in loc]
    kept: list[str] = []
    for number, key in enumerate(keys):
        is_tag = keys[number - 1 : number] == ["source"] and key in ("hub", "url")
        is_last = number == len(keys) - 1
        if not is_tag or (is_last and ".".join([*kept, key]) in merged.origins):
            kept.append(key)
    return ".".join(kept)
